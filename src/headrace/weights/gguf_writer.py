"""Writes a GGUF file tensor by tensor: in memory is one tensor, never the model."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import RequestInvalid
from headrace.machine import format_bytes
from headrace.weights.gguf import DEFAULT_ALIGNMENT, TYPE_NUMBERS, VERSIONS, GgufFile
from headrace.weights.mapped import map_file
from headrace.weights.quantisation import nbytes

if TYPE_CHECKING:
    from gguf import GGUFWriter

Progress = Callable[[int, int], None]  # bytes written, bytes in all
_U32 = 4  # GGUF's number for that type


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file; `encode` makes its bytes, uint8 [nbytes(type, shape)], when their turn has come."""

    name: str
    type: str
    shape: tuple[int, ...]
    encode: Callable[[], NDArray[np.uint8]]

    @property
    def size_bytes(self) -> int:
        return nbytes(self.type, self.shape)


def write(
    path: Path, metadata: Mapping[str, Any], entries: Sequence[Entry], progress: Progress = lambda *_: None
) -> None:
    """The file at `path`, complete or not at all. Raises RequestInvalid where there is no room for it."""
    with _whole(path, entries, progress) as (part, say):
        _write(part, metadata, entries, say)


def rewrite(
    path: Path,
    source: GgufFile,
    numbers: Mapping[str, int],
    entries: Sequence[Entry],
    progress: Progress = lambda *_: None,
) -> None:
    """As `write`, with the metadata of `source`, byte for byte and in its order, but for `numbers`, which are unsigned
    32-bit ones, and for what says that it is a part of a model (`split.*`)."""
    alignment = source.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    with _whole(path, entries, progress) as (part, say), part.open("wb") as file:
        file.write(_header(_pairs(source, numbers), entries, alignment))
        done = 0
        for entry in entries:
            file.write(bytes(-file.tell() % alignment))
            file.write(entry.encode().data)
            done += entry.size_bytes
            say(done)
        file.write(bytes(-file.tell() % alignment))


@contextmanager
def _whole(path: Path, entries: Sequence[Entry], progress: Progress) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """The place to write to, and whom to tell how many bytes are done; it becomes `path` if all goes well."""
    total = sum(entry.size_bytes for entry in entries)
    check_room(path, total)
    part = path.with_name(path.name + ".part")
    try:
        yield part, lambda done: progress(done, total)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _pairs(source: GgufFile, numbers: Mapping[str, int]) -> list[bytes]:
    mapped = map_file(source.path)
    kept = {key: mapped[begin:end] for key, (begin, end) in source.pairs.items() if not key.startswith("split.")}
    given = {key: _text(key) + struct.pack("<II", _U32, number) for key, number in numbers.items()}
    return list((kept | given).values())


def _header(pairs: Sequence[bytes], entries: Sequence[Entry], alignment: int) -> bytes:
    """All that comes before the tensors: see `gguf`."""
    tensors, offset = [], 0
    for entry in entries:
        sizes = reversed(entry.shape)
        numbers = struct.pack(f"<I{len(entry.shape)}QIQ", len(entry.shape), *sizes, TYPE_NUMBERS[entry.type], offset)
        tensors.append(_text(entry.name) + numbers)
        offset += -(-entry.size_bytes // alignment) * alignment
    header = b"GGUF" + struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(pairs)) + b"".join([*pairs, *tensors])
    return header + bytes(-len(header) % alignment)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _write(path: Path, metadata: Mapping[str, Any], entries: Sequence[Entry], progress: Callable[[int], None]) -> None:
    """Header first, which needs only names, shapes and types; then each tensor as it is encoded."""
    import gguf  # a third of a second: only who writes waits for it

    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if key != "general.architecture":
            _add(writer, key, value)
    for entry in entries:
        kind = gguf.GGMLQuantizationType[entry.type]
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), entry.size_bytes, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done = 0
        for entry in entries:
            writer.write_tensor_data(entry.encode())
            done += entry.size_bytes
            progress(done)
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    """Types as llama.cpp expects them: 32-bit whole numbers, unsigned but for the arrays; 32-bit floats."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value) if value >= 0 else writer.add_int32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(f"{key} is a {type(value).__name__}")


def check_room(destination: Path, size_bytes: int) -> None:
    """Raises RequestInvalid if a file of this size has no room where `destination` is to be."""
    folder = destination.absolute().parent
    if not folder.is_dir():
        raise RequestInvalid(f"{folder} is not a folder: make it first")
    free = shutil.disk_usage(folder).free
    if free < size_bytes * 1.01:
        raise RequestInvalid(
            f"{folder} has {format_bytes(free)} free, but the file takes {format_bytes(size_bytes)}: free some space"
        )
