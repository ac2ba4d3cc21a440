"""Reads GGUF: a header of typed metadata and tensor descriptions, then the tensors, each at an aligned offset.

    file     "GGUF"  u32 version  u64 tensors  u64 pairs  pair...  tensor...  padding  data
    pair     text key   u32 type   value
    tensor   text name  u32 axes   u64 size...  (fastest axis first)  u32 type  u64 offset into the data
    text     u64 length, UTF-8 bytes
    array    u32 type   u64 count  items

The file is hostile until checked. No count or length is believed before it is compared with what is left of the file,
so memory follows the file's size and never its claims. Tensors are views of the mapped file, read when they are used.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from headrace.errors import FileInvalid, Unsupported
from headrace.weights.mapped import Extent, as_bytes, check_extents, map_file, shown
from headrace.weights.quantisation import TYPES, nbytes
from headrace.weights.tensor import Tensor

VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_AXES = 4

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = MappingProxyType(
    {
        number: struct.Struct(f"<{code}")
        for number, code in {
            0: "B",
            1: "b",
            2: "H",
            3: "h",
            4: "I",
            5: "i",
            6: "f",
            7: "?",
            10: "Q",
            11: "q",
            12: "d",
        }.items()
    }
)
_U32, _U64 = _SCALARS[4], _SCALARS[10]

# In the order of GGML's numbers, so that a sentence can name what is not supported; the readable ones are TYPES.
_TYPE_LIST = """
    F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K
    IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16
    Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 TQ1_0 TQ2_0 IQ4_NL_4_4 IQ4_NL_4_8 IQ4_NL_8_8 MXFP4 NVFP4 Q1_0
"""
_TYPE_NAMES = MappingProxyType(dict(enumerate(_TYPE_LIST.split())))
TYPE_NUMBERS = MappingProxyType({name: number for number, name in _TYPE_NAMES.items()})


@dataclass(frozen=True, slots=True)
class GgufFile:
    """`metadata` holds Python values, lists of str and NumPy arrays; `tensors` are in the file's order, by name.

    `data_start` is the byte at which tensor offsets begin to count: what lies before it is the header. `starts` are the
    bytes at which tensors begin, `pairs` those at which each pair of the metadata begins and ends.
    """

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]
    starts: dict[str, int]
    data_start: int
    pairs: dict[str, tuple[int, int]]


def read(path: Path) -> GgufFile:
    """Reads a header and maps the tensors; FileInvalid or Unsupported says what is wrong with the file.

    Of a model in several files this is one: see `split`.
    """
    header = _Cursor(path, map_file(path))
    version, tensor_count, pair_count = _read_preamble(header)
    metadata, pairs = _read_metadata(header, pair_count)
    alignment = _alignment(path, metadata)
    header.expect(tensor_count, 32, "tensors")  # no name, one axis
    claims = [_read_claim(header) for _ in range(tensor_count)]
    data_start = -(-header.position // alignment) * alignment
    extents = _check_claims(header, claims, data_start, alignment)
    data = as_bytes(header.data)
    tensors = {
        c.name: Tensor(c.name, c.type, c.shape, data[e.start : e.stop]) for c, e in zip(claims, extents, strict=True)
    }
    starts = {extent.name: extent.start for extent in extents}
    return GgufFile(path, version, metadata, tensors, starts, data_start, pairs)


class _Cursor:
    """A position in the header; whatever is taken is first compared with what is left."""

    __slots__ = ("data", "path", "position", "size")

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = 0

    def fail(self, problem: str) -> NoReturn:
        raise FileInvalid(self.path, problem)

    def expect(self, count: int, item_bytes: int, what: str) -> None:
        """FileInvalid unless `count` items of at least `item_bytes` each can still follow."""
        left = self.size - self.position
        if count * item_bytes > left:
            self.fail(f"the header claims {count} {what} where {left} bytes are left: the file is cut off or damaged")

    def number(self, kind: struct.Struct) -> Any:
        self.expect(kind.size, 1, "bytes")
        (value,) = kind.unpack_from(self.data, self.position)
        self.position += kind.size
        return value

    def text(self) -> str:
        return self.texts(1)[0]

    def texts(self, count: int) -> list[str]:
        """So many strings one after another: a tokenizer has a hundred thousand, so this loop is kept bare."""
        self.expect(count, _U64.size, "strings")
        found: list[str] = []
        data, position, size, length_at = self.data, self.position, self.size, _U64.unpack_from
        try:
            for _ in range(count):
                start = position + 8
                if start > size:
                    self.fail("the header ends within a list of strings: the file is cut off or damaged")
                position = start + length_at(data, position)[0]
                if position > size:
                    self.fail("a string in the header runs past the end of the file: it is cut off or damaged")
                found.append(data[start:position].decode())
        except UnicodeDecodeError:
            self.fail("a string in the header is not UTF-8: the file is damaged")
        self.position = position
        return found

    def array(self, kind: struct.Struct, count: int) -> Any:
        self.expect(count, kind.size, f"array items of {kind.size} bytes")
        dtype = np.dtype(kind.format)
        values = np.frombuffer(self.data, dtype, count, self.position).astype(dtype.newbyteorder("="))
        self.position += count * kind.size
        return values


def _read_preamble(header: _Cursor) -> tuple[int, int, int]:
    magic = header.data[:4]
    if magic not in (b"GGUF", b"FUGG"):
        header.fail("this is not a GGUF file: it does not begin with GGUF")
    header.position = 4
    version = header.number(_U32)
    if magic == b"FUGG" or (version and not version & 0xFFFF):
        raise Unsupported(f"{header.path}: the file is big-endian: get the little-endian one")
    if version not in VERSIONS:
        raise Unsupported(f"{header.path}: GGUF version {version} is not supported: convert it to version 3")
    return version, header.number(_U64), header.number(_U64)


def _read_metadata(header: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The values, and where each pair begins and ends."""
    header.expect(count, 13, "metadata pairs")  # an empty key, a type, one byte
    metadata: dict[str, Any] = {}
    pairs: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        begin = header.position
        key = header.text()
        if key in metadata:
            header.fail(f"the metadata key {shown(key)} occurs twice: the file is damaged")
        metadata[key] = _read_value(header, key, header.number(_U32))
        pairs[key] = begin, header.position
    return metadata, pairs


def _read_value(header: _Cursor, key: str, kind: int) -> Any:
    if kind == _STRING:
        return header.text()
    if kind in _SCALARS:
        return header.number(_SCALARS[kind])
    if kind != _ARRAY:
        header.fail(
            f"the metadata {shown(key)} has the unknown type {kind}: the file is damaged, or newer than Headrace"
        )
    item, count = header.number(_U32), header.number(_U64)
    if item == _STRING:
        return header.texts(count)
    if item in _SCALARS:
        return header.array(_SCALARS[item], count)
    if item == _ARRAY:
        raise Unsupported(f"{header.path}: the metadata {shown(key)} is an array of arrays, which is not supported")
    return header.fail(f"the metadata {shown(key)} is an array of the unknown type {item}: the file is damaged")


def _alignment(path: Path, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or value < 8 or value & (value - 1):
        raise FileInvalid(path, f"general.alignment is {shown(value)}: it must be a power of two, at least 8")
    return value


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the header says of one tensor; `offset` counts from the start of the data."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int


def _read_claim(header: _Cursor) -> _Claim:
    name = header.text()
    axes = header.number(_U32)
    if not 1 <= axes <= MAX_AXES:
        header.fail(f"tensor {shown(name)} has {axes} axes: 1 to {MAX_AXES} are possible")
    sizes = [header.number(_U64) for _ in range(axes)]
    if 0 in sizes:
        header.fail(f"tensor {shown(name)} is empty: its sizes are {sizes}")
    number, offset = header.number(_U32), header.number(_U64)
    type_name = _TYPE_NAMES.get(number, f"type {number}")
    if type_name not in TYPES:
        supported = ", ".join(TYPES)
        raise Unsupported(
            f"{header.path}: tensor {shown(name)} is {type_name}, which is not supported yet: use {supported}"
        )
    return _Claim(name, type_name, tuple(reversed(sizes)), offset)


def _check_claims(header: _Cursor, claims: list[_Claim], data_start: int, alignment: int) -> list[Extent]:
    extents: dict[str, Extent] = {}
    for claim in claims:
        if claim.name in extents:
            header.fail(f"tensor {shown(claim.name)} occurs twice: the file is damaged")
        if claim.shape[-1] % TYPES[claim.type].block:
            header.fail(
                f"tensor {shown(claim.name)} has rows of {claim.shape[-1]}, not a whole number of {claim.type} blocks"
            )
        if claim.offset % alignment:
            header.fail(
                f"tensor {shown(claim.name)} begins at {claim.offset}, not a multiple of the alignment {alignment}"
            )
        start = data_start + claim.offset
        extents[claim.name] = Extent(start, start + nbytes(claim.type, claim.shape), claim.name)
    check_extents(header.path, extents.values(), header.size)
    return list(extents.values())
