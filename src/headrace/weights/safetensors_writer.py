"""Writes safetensors piece by piece: one file, or shards with an index. The format is described in `safetensors`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.weights.quantisation import nbytes

SHARD_BYTES: Final = 5 * 10**9  # of the tensors in a file, as Hugging Face's libraries have it; a larger one is alone
ALIGNMENT: Final = 8  # of the data behind the header


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor; `pieces` makes its bytes, one after another, when their turn has come. `type` is F32, F16 or BF16."""

    name: str
    type: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[NDArray[np.uint8]]]

    @property
    def size_bytes(self) -> int:
        return nbytes(self.type, self.shape)


def write(
    folder: Path,
    entries: Sequence[Entry],
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    shard_bytes: int,
) -> None:
    """model.safetensors in `folder`, or its shards; `progress` is told the bytes of tensors written, and of all."""
    shards = _shards(entries, shard_bytes)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    done, total = 0, sum(entry.size_bytes for entry in entries)
    for name, shard in zip(names, shards, strict=True):
        for size_bytes in _write(folder / name, shard):
            done += size_bytes
            progress(done, total)
    if len(shards) > 1:
        weight_map = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    """In order, each as full as can be."""
    shards: list[list[Entry]] = [[]]
    left = shard_bytes
    for entry in entries:
        if entry.size_bytes > left and shards[-1]:
            shards.append([])
            left = shard_bytes
        shards[-1].append(entry)
        left -= entry.size_bytes
    return shards


def _write(path: Path, entries: Sequence[Entry]) -> Iterator[int]:
    """Gives the bytes of each piece when it is written."""
    with path.open("xb") as file:
        file.write(_header(entries))
        for entry in entries:
            for piece in entry.pieces():
                file.write(piece.data)
                yield piece.size


def _header(entries: Sequence[Entry]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # without it transformers takes no file
    start = 0
    for entry in entries:
        stop = start + entry.size_bytes
        header[entry.name] = {"dtype": entry.type, "shape": list(entry.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
