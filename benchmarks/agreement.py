"""`python -m benchmarks.agreement FILE`: the logits of a file here, in the NumPy interpreter, and in llama.cpp.

Meant for the files that are timed, which are too large to be held in memory as float32: the interpreter makes each
matrix when it comes to it (a minute for 8B-A1B, and 3 GB). llama.cpp is `llama-cpp-python` in this environment, or in
that of `--llama-python`, and is left out where it is not there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import headrace
from headrace import checkpoint
from headrace.reference import Reference

Logits = NDArray[np.float32]  # [tokens, vocabulary]

_LLAMA = """
import json, sys
import llama_cpp as llama
import numpy as np
file, tokens, out = sys.argv[1:]
ids = json.loads(tokens)
how = llama.llama_model_default_params()
how.use_extra_bufts = False  # weights as they are: rearranged for AMX, version 0.3.36 crashes
model = llama.llama_model_load_from_file(file.encode(), how)
options = llama.llama_context_default_params()
options.n_ctx = options.n_batch = options.n_ubatch = len(ids) + 8
context = llama.llama_init_from_model(model, options)
batch = llama.llama_batch_init(len(ids), 0, 1)
batch.n_tokens = len(ids)
for i, token in enumerate(ids):
    batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
    batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
if llama.llama_decode(context, batch):
    sys.exit("decode failed")
words = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (words,)) for i in range(len(ids))]
np.save(out, np.array(rows, np.float32))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--llama-python", default=sys.executable, help="a Python that has llama-cpp-python")
    options = parser.parse_args()
    source = checkpoint.read(options.file)
    spread = source.backbone.vocab_size * 9 // 10 - 300  # neither special tokens nor padding
    ids = [1, *(300 + i * 7919 % spread for i in range(options.tokens - 1))]
    with headrace.load(options.file, num_ctx=len(ids)) as model:
        ours = model.logits(ids)
    print(f"{options.file.name}, {len(ids)} tokens")
    interpreted = Reference(source.plan, source.weights, kv="fp16", hold=False).logits(ids)
    print(f"the NumPy interpreter, same rounding of activations: {compared(ours, interpreted)}", flush=True)
    if (theirs := llama_logits(options.llama_python, options.file, ids)) is not None:
        print(f"llama.cpp: {compared(ours, theirs)}")


def llama_logits(python: str, file: Path, ids: list[int]) -> Logits | None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        done = subprocess.run(
            [python, "-c", _LLAMA, str(file), json.dumps(ids), str(out)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"llama.cpp is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        found: Logits = np.load(out)
        return found


def compared(ours: Logits, theirs: Logits) -> str:
    """Divergence of ours from theirs, how often both hold the same token most likely, and the largest difference."""
    p, q = log_softmax(theirs), log_softmax(ours)
    divergence = float((np.exp(p) * (p - q)).sum(1).mean())
    same = float((ours.argmax(1) == theirs.argmax(1)).mean())
    largest = float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))
    return f"mean KL {divergence:.2g} nats, top-1 agreement {same:.1%}, largest difference {largest:.2g} of the range"


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


if __name__ == "__main__":
    main()
