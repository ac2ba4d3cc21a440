"""The packed file: a GGUF's quantised matrices in the order of the kernels, made once and mapped ever after.

    "HEADRACE PANELS\\n", version, length of the index (two little-endian uint64)
    the index: JSON with the source's identity, and name, type, shape, place and checksum of every tensor
    the source's header as it is; then every tensor on a page of its own, matrices in panels

Nothing is lost and nothing rounded: `export` gives the source back, byte for byte. A packed file is found by its
source's path, size, modification time and header; one that is cut off, foreign or of another version is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headrace.engine.core import chosen_isa, load_core
from headrace.errors import FileInvalid
from headrace.machine import cache_folder, usable_threads
from headrace.weights import gguf, split
from headrace.weights.mapped import as_bytes, let_go, map_file
from headrace.weights.tensor import Tensor, Weights

VERSION = 1
MAGIC = b"HEADRACE PANELS\n"
PANELS = "/panels"  # behind the type of a tensor that lies in panels
SMALL_BYTES = 64 << 20  # a model up to this size is packed in memory, at every start
PAGE = 4096
_PREAMBLE = struct.Struct("<16sQQ")
_PANEL_ROWS = 32
_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Bytes = NDArray[np.uint8]


def in_panels(path: Path, weights: Weights, progress: Progress = lambda *_: None) -> Weights:
    """`weights` with the matrices in panels that this machine reads fastest so; the others as they are.

    Weights of a large GGUF come from its packed file, which is made where there is none. Where it cannot be made (no
    room, no right), rows must do.
    """
    types = frozenset(load_core().panel_types(chosen_isa()))
    candidates = [t for tensors in weights.values() for t in tensors if _fits(t, types)]
    if not candidates:
        return weights
    if sum(t.data.size for t in candidates) <= SMALL_BYTES or not path.is_file():
        return _packed_in_memory(weights, types)
    try:
        found = _open(path, types, progress)
    except (OSError, FileInvalid) as error:
        _log.warning("%s runs unpacked, and slower: %s", path.name, error)
        return weights
    return {name: tuple(_replaced(tensor, found) for tensor in tensors) for name, tensors in weights.items()}


def folder() -> Path:
    """Where packed files are kept."""
    return cache_folder() / "packed"


def _fits(tensor: Tensor, types: frozenset[str]) -> bool:
    return len(tensor.shape) >= 2 and tensor.type in types and tensor.shape[-2] % _PANEL_ROWS == 0


def _packed_in_memory(weights: Weights, types: frozenset[str]) -> Weights:
    def packed(tensor: Tensor) -> Tensor:
        return _to_panels(tensor) if _fits(tensor, types) else tensor

    return {name: tuple(map(packed, tensors)) for name, tensors in weights.items()}


def _to_panels(tensor: Tensor) -> Tensor:
    """A matrix, or a stack of them, matrix by matrix."""
    core, (rows, columns) = load_core(), tensor.shape[-2:]
    each = tensor.data.reshape(prod(tensor.shape[:-2]), -1)
    data = np.concatenate([core.to_panels(tensor.type, rows, columns, matrix) for matrix in each])
    return Tensor(tensor.name, tensor.type + PANELS, tensor.shape, data)


def _replaced(tensor: Tensor, found: Mapping[str, Tensor]) -> Tensor:
    """The packed form of a tensor, or of one expert of a stack ("name[3]")."""
    name, _, number = tensor.name.partition("[")
    packed = found.get(name)
    if packed is None:
        return tensor
    data = packed.data.reshape(-1, tensor.data.size)[int(number.rstrip("]")) if number else 0]
    return Tensor(tensor.name, packed.type, tensor.shape, data)


# --- finding


@dataclass(frozen=True, slots=True)
class _Source:
    """What a packed file was made from."""

    path: str
    size_bytes: int
    modified_ns: int
    header_digest: str

    @classmethod
    def of(cls, path: Path, data_start: int) -> _Source:
        stat = path.stat()
        header = as_bytes(map_file(path))[:data_start]
        return cls(str(path.resolve()), stat.st_size, stat.st_mtime_ns, hashlib.sha256(header.data).hexdigest())

    def index(self, types: frozenset[str]) -> dict[str, Any]:
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "modified_ns": self.modified_ns,
            "header_digest": self.header_digest,
            "types": sorted(types),
        }


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the packed form of one file belongs, and what its index must say of the source."""

    source: gguf.GgufFile
    packed: Path
    wanted: dict[str, Any]

    @classmethod
    def of(cls, source: gguf.GgufFile, types: frozenset[str]) -> _Place:
        wanted = _Source.of(source.path, source.data_start).index(types)
        digest = hashlib.sha256(wanted["path"].encode()).hexdigest()[:12]
        return cls(source, folder() / f"{source.path.stem}-{digest}.panels", wanted)

    @property
    def size_bytes(self) -> int:
        """Of the tensors alone."""
        return sum(tensor.data.size for tensor in self.source.tensors.values())


def _open(path: Path, types: frozenset[str], progress: Progress) -> dict[str, Tensor]:
    """The packed tensors of a GGUF by its names for them; each of a model's files has a packed one of its own."""
    places = [_Place.of(source, types) for source in split.read(path)]
    absent = [place for place in places if _index(place.packed, place.wanted) is None]
    _check_room(absent)
    total, before = sum(place.size_bytes for place in absent), 0
    for place in absent:
        _write(place, types, _after(before, total, progress))
        before += place.size_bytes
    return {name: tensor for place in places for name, tensor in _panels(place).items()}


def _after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    return lambda done: progress(before + done, total)


def _panels(place: _Place) -> dict[str, Tensor]:
    index = _index(place.packed, place.wanted)
    if index is None:
        raise FileInvalid(place.packed, "it does not hold what was just written: is the disk sound?")
    data = as_bytes(map_file(place.packed))
    return {
        entry["name"]: Tensor(entry["name"], entry["type"], tuple(entry["shape"]), _part(data, entry))
        for entry in index["tensors"]
        if entry["type"].endswith(PANELS)
    }


def _part(data: Bytes, entry: Mapping[str, Any]) -> Bytes:
    return data[entry["start"] : entry["start"] + entry["size_bytes"]]


def _index(packed: Path, wanted: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The index of a packed file, or None if there is none that is whole, of this version and of that source."""
    try:
        with packed.open("rb") as file:
            magic, version, length = _PREAMBLE.unpack(file.read(_PREAMBLE.size))
            if magic != MAGIC or version != VERSION or length > 1 << 30:
                return None
            index: dict[str, Any] = json.loads(file.read(length))
        if packed.stat().st_size != index["size_bytes"]:
            return None
        return index if wanted is None or index["source"] == wanted else None
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None


# --- writing


def _check_room(places: Iterable[_Place]) -> None:
    """OSError unless all of them can be written."""
    needed = sum(p.size_bytes + p.source.data_start + PAGE * (len(p.source.tensors) + 64) for p in places)
    parent = folder()
    parent.mkdir(parents=True, exist_ok=True)
    if needed and (free := shutil.disk_usage(parent).free) < needed * 1.02:
        raise OSError(f"its packed copy takes {needed / 2**30:.1f} GiB, and {parent} has {free / 2**30:.1f} free")


def _write(place: _Place, types: frozenset[str], say: Callable[[int], None]) -> None:
    """Streams: in memory is one tensor for each thread. What was written is read again and compared."""
    source, packed = place.source, place.packed
    entries = _layout(source, types)
    if not _gaps_are_zero(source):
        raise OSError("there is something between its tensors that a packed file would not keep")
    index = {"source": place.wanted, "header": {}, "tensors": entries, "size_bytes": 0}
    room = _round(_PREAMBLE.size + len(json.dumps(index)) + 64 * (len(entries) + 2))  # checksums and places come later
    part = packed.with_name(f"{packed.name}.{os.getpid()}.part")
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
            assert _PREAMBLE.size + len(encoded) <= room, "the index outgrew its room"
            file.seek(0)
            file.write(_PREAMBLE.pack(MAGIC, VERSION, len(encoded)) + encoded)
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
            "type": tensor.type + (PANELS if _fits(tensor, types) else ""),
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
        return _to_panels(tensor).data if entry["type"].endswith(PANELS) else tensor.data

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


# --- checking, and the way back


def damaged(packed: Path) -> list[str]:
    """The names of what does not have its checksum; FileInvalid if it is no packed file at all."""
    index = _index(packed)
    if index is None:
        raise FileInvalid(packed, "it is not a whole packed file of this version")
    data = as_bytes(map_file(packed))
    wrong = []
    for entry in [{"name": "the header", **index["header"]}, *index["tensors"]]:
        if zlib.crc32(_part(data, entry).data) != entry["crc32"]:
            wrong.append(entry["name"])
        let_go([data])
    return wrong


def export(packed: Path, destination: Path, progress: Progress = lambda *_: None) -> None:
    """Writes the GGUF that `packed` was made from. Raises FileInvalid for what is damaged."""
    index = _index(packed)
    if index is None:
        raise FileInvalid(packed, "it is not a whole packed file of this version")
    data, core = as_bytes(map_file(packed)), load_core()
    part = destination.with_name(destination.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(_part(data, index["header"]).data)
            total = index["source"]["size_bytes"]
            for entry in index["tensors"]:
                rows = _part(data, entry)
                if entry["type"].endswith(PANELS):
                    kind, sides = entry["type"].removesuffix(PANELS), entry["shape"][-2:]
                    each = rows.reshape(prod(entry["shape"][:-2]), -1)
                    rows = np.concatenate([core.from_panels(kind, *sides, matrix) for matrix in each])
                file.seek(entry["source_start"])
                file.write(rows.data)
                progress(file.tell(), total)
            file.truncate(total)
        header = as_bytes(map_file(part))[: index["header"]["size_bytes"]]
        if hashlib.sha256(header.data).hexdigest() != index["source"]["header_digest"]:
            raise FileInvalid(packed, "its header is not that of its source: it is damaged")
        part.replace(destination)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
