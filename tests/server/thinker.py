"""nano under another header: one whose vocabulary can think, or one that says other things of itself.

Two of its unused tokens are the ends of a thought. It was never taught to end one, so what it is made to think is all
it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace import nano
from headrace.weights import gguf, gguf_writer
from headrace.weights.gguf_writer import Entry
from headrace.weights.tensor import Tensor

RENAMED = {"<|fim_pre|>": "<think>", "<|fim_suf|>": "</think>"}


def write(path: Path, thinks: bool = True, **changed: Any) -> Path:
    """`changed` are fields of the header, with two underscores for each dot."""
    source = gguf.read(nano.FILE)
    metadata = {key: _plain(value) for key, value in source.metadata.items()}
    if thinks:
        tokens = metadata["tokenizer.ggml.tokens"]
        metadata["tokenizer.ggml.tokens"] = [RENAMED.get(token, token) for token in tokens]
    metadata |= {key.replace("__", "."): value for key, value in changed.items()}
    gguf_writer.write(path, metadata, _entries(list(source.tensors.values())))
    return path


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _entries(tensors: Sequence[Tensor]) -> list[Entry]:
    return [Entry(one.name, one.type, one.shape, lambda data=one.data: np.array(data)) for one in tensors]
