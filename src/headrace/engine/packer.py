"""Makes packed files: tensor by tensor, checked, and whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import prod
from typing import Any, BinaryIO, Final

import numpy as np

from headrace.engine.core import load_core
from headrace.engine.packed_file import MAGIC, PANELS, PART, PREAMBLE, VERSION, Bytes, Place, damaged, folder
from headrace.machine import usable_threads
from headrace.weights import gguf
from headrace.weights.mapped import as_bytes, let_go, map_file
from headrace.weights.tensor import Tensor

PAGE: Final = 4096
PANEL_ROWS: Final = 32


def fits(tensor: Tensor, types: frozenset[str]) -> bool:
    return len(tensor.shape) >= 2 and tensor.type in types and tensor.shape[-2] % PANEL_ROWS == 0


def to_panels(tensor: Tensor) -> Tensor:
    """A matrix, or a stack of them, matrix by matrix."""
    core, (rows, columns) = load_core(), tensor.shape[-2:]
    each = tensor.data.reshape(prod(tensor.shape[:-2]), -1)
    data = np.concatenate([core.to_panels(tensor.type, rows, columns, matrix) for matrix in each])
    return Tensor(tensor.name, tensor.type + PANELS, tensor.shape, data)


def check_room(places: Iterable[Place]) -> None:
    """OSError unless all of them can be written."""
    needed = sum(p.size_bytes + p.source.data_start + PAGE * (len(p.source.tensors) + 64) for p in places)
    parent = folder()
    parent.mkdir(parents=True, exist_ok=True)
    if needed and (free := shutil.disk_usage(parent).free) < needed * 1.02:
        raise OSError(f"its packed copy takes {needed / 2**30:.1f} GiB, and {parent} has {free / 2**30:.1f} free")


def write(place: Place, types: frozenset[str], say: Callable[[int], None]) -> None:
    """Streams: in memory is one tensor for each thread. What was written is read again and compared."""
    source, packed = place.source, place.packed
    entries = _layout(source, types)
    if not _gaps_are_zero(source):
        raise OSError("there is something between its tensors that a packed file would not keep")
    index = {"source": place.wanted, "header": {}, "tensors": entries, "size_bytes": 0}
    room = _round(PREAMBLE.size + len(json.dumps(index)) + 64 * (len(entries) + 2))  # checksums and places come later
    part = packed.with_name(packed.name + PART)
    try:
        with part.open("wb") as file:
            index["header"] = _append(file, room, as_bytes(map_file(source.path))[: source.data_start])
            done = 0
            for entry, data in _packed(source, entries):
                entry |= _append(file, _round(file.tell()), data)
                done += data.size
                let_go([source.tensors[entry["name"]].data])  # else a large file would seem to take its size twice
                say(done)
            index["size_bytes"] = file.tell()
            encoded = json.dumps(index).encode()
            assert PREAMBLE.size + len(encoded) <= room, "the index outgrew its room"
            file.seek(0)
            file.write(PREAMBLE.pack(MAGIC, VERSION, len(encoded)) + encoded)
            file.flush()
            os.fsync(file.fileno())
        if wrong := damaged(part):
            raise OSError(f"{wrong[0]} was not written as it should be")
        part.replace(packed)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _layout(source: gguf.GgufFile, types: frozenset[str]) -> list[dict[str, Any]]:
    """The tensors in the order of the file, with where they stood in it."""
    return [
        {
            "name": tensor.name,
            "type": tensor.type + (PANELS if fits(tensor, types) else ""),
            "shape": list(tensor.shape),
            "source_start": source.starts[tensor.name],
            "start": 0,
            "size_bytes": tensor.data.size,
            "crc32": 0,
        }
        for tensor in source.tensors.values()
    ]


def _gaps_are_zero(source: gguf.GgufFile) -> bool:
    """Whether nothing but padding lies between tensors and behind the last one, so that the way back is exact."""
    data, position = as_bytes(map_file(source.path)), source.data_start
    for name in sorted(source.starts, key=source.starts.__getitem__):
        start = source.starts[name]
        if data[position:start].any():
            return False
        position = start + source.tensors[name].data.size
    return not data[position:].any()


def _packed(source: gguf.GgufFile, entries: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Bytes]]:
    """Tensors in order, some of them being packed while others are written."""

    def packed(entry: dict[str, Any]) -> Bytes:
        tensor = source.tensors[entry["name"]]
        return to_panels(tensor).data if entry["type"].endswith(PANELS) else tensor.data

    threads = usable_threads()
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(entries), threads):
            some = entries[first : first + threads]
            yield from zip(some, pool.map(packed, some), strict=True)


def _append(file: BinaryIO, start: int, data: Bytes) -> dict[str, int]:
    file.seek(start)
    file.write(data.data)
    return {"start": start, "size_bytes": data.size, "crc32": zlib.crc32(data.data)}


def _round(position: int) -> int:
    return -(-position // PAGE) * PAGE
