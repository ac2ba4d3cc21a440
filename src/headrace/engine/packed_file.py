"""What a packed file looks like: a GGUF's quantised matrices in the order of the kernels, on pages that a start maps.

    "HEADRACE PANELS\\n", version, length of the index (two little-endian uint64)
    the index: JSON with the source's identity, and name, type, shape, place and checksum of every tensor
    the source's header as it is; then every tensor on a page of its own, matrices in panels

Nothing is lost and nothing rounded: `export` gives the source back, byte for byte. A packed file belongs to its
source's path, size, modification time and header.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.engine.core import load_core
from headrace.errors import FileInvalid
from headrace.locks import locked
from headrace.machine import cache_folder
from headrace.weights import gguf
from headrace.weights.mapped import as_bytes, let_go, map_file

VERSION: Final = 1
MAGIC: Final = b"HEADRACE PANELS\n"
PANELS: Final = "/panels"  # behind the type of a tensor that lies in panels
SUFFIX: Final = ".panels"
PART: Final = ".part"  # behind the name of a file that is being written
PREAMBLE: Final = struct.Struct("<16sQQ")
LARGEST_INDEX: Final = 1 << 30  # bytes

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Bytes = NDArray[np.uint8]


def unwatched(done: int, total: int) -> None:
    """For whoever does not watch."""


def folder() -> Path:
    """Where packed files are kept."""
    return cache_folder() / "packed"


@dataclass(frozen=True, slots=True)
class Source:
    """What a packed file was made from."""

    path: str
    size_bytes: int
    modified_ns: int
    header_digest: str

    @classmethod
    def of(cls, path: Path, data_start: int) -> Source:
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
class Place:
    """Where the packed form of one file belongs, and what its index must say of the source."""

    source: gguf.GgufFile
    packed: Path
    wanted: dict[str, Any]

    @classmethod
    def of(cls, source: gguf.GgufFile, types: frozenset[str]) -> Place:
        wanted = Source.of(source.path, source.data_start).index(types)
        digest = hashlib.sha256(wanted["path"].encode()).hexdigest()[:12]
        return cls(source, folder() / f"{source.path.stem}-{digest}{SUFFIX}", wanted)

    @property
    def size_bytes(self) -> int:
        """Of the tensors alone."""
        return sum(tensor.data.size for tensor in self.source.tensors.values())


def part_of(data: Bytes, entry: Mapping[str, Any]) -> Bytes:
    return data[entry["start"] : entry["start"] + entry["size_bytes"]]


def index_of(packed: Path, wanted: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The index of a packed file, or None if there is none that is whole, of this version and of that source."""
    try:
        with packed.open("rb") as file:
            magic, version, length = PREAMBLE.unpack(file.read(PREAMBLE.size))
            if magic != MAGIC or version != VERSION or length > LARGEST_INDEX:
                return None
            index: dict[str, Any] = json.loads(file.read(length))
        if packed.stat().st_size != index["size_bytes"]:
            return None
        return index if wanted is None or index["source"] == wanted else None
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None


def lock_of(packed: Path) -> Path:
    """Whoever makes a packed file, or takes it away, holds this."""
    return packed.with_name(packed.name + ".lock")


@contextmanager
def alone_at(packed: Path, wait_s: float | None = None) -> Iterator[None]:
    """Waits for whoever else is at it, for so many seconds (None: until it is done). Raises Busy."""
    lock = lock_of(packed)
    with locked(lock, wait_s):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def damaged(packed: Path) -> list[str]:
    """The names of what does not have its checksum; FileInvalid if it is no packed file at all."""
    index = index_of(packed)
    if index is None:
        raise FileInvalid(packed, "it is not a whole packed file of this version")
    data = as_bytes(map_file(packed))
    wrong = []
    for entry in [{"name": "the header", **index["header"]}, *index["tensors"]]:
        if zlib.crc32(part_of(data, entry).data) != entry["crc32"]:
            wrong.append(entry["name"])
        let_go([data])
    return wrong


def export(packed: Path, destination: Path, progress: Progress = unwatched) -> None:
    """Writes the GGUF that `packed` was made from. Raises FileInvalid for what is damaged."""
    index = index_of(packed)
    if index is None:
        raise FileInvalid(packed, "it is not a whole packed file of this version")
    data, core = as_bytes(map_file(packed)), load_core()
    part = destination.with_name(destination.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(part_of(data, index["header"]).data)
            total = index["source"]["size_bytes"]
            for entry in index["tensors"]:
                rows = part_of(data, entry)
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
