"""The storage types of GGML: the weights a block holds, the bytes it takes, and the float32 values it stands for.

Layouts and formulae are those of ggml (`ggml-common.h`, `dequantize_row_*`), and the results have the same bits:

    F32, F16, BF16   one weight a block
    Q8_0   32 weights, 34 bytes    half d, int8 q[32]                                   d * q
    Q4_0   32 weights, 18 bytes    half d, 16 bytes: weight i low half, i + 16 high     d * (q - 8)
    Q4_1   32 weights, 20 bytes    half d, half m, 16 bytes as in Q4_0                  d * q + m
    Q5_0   32 weights, 22 bytes    half d, fifth bits[4], 16 bytes as in Q4_0           d * (q - 16)
    Q5_1   32 weights, 24 bytes    half d, half m, fifth bits[4], 16 bytes              d * q + m
    IQ4_NL 32 weights, 18 bytes    as Q4_0                                              d * LEVELS[q]
    Q3_K  256 weights, 110 bytes   third bits[32], qs[64], scales[12], half d           (d * (scale - 32)) * (q - 4)
    Q4_K  256 weights, 144 bytes   half d, half e, scales[12], qs[128]                  (d * scale) * q - e * least
    Q5_K  256 weights, 176 bytes   half d, half e, scales[12], fifth bits[32], qs[128]  (d * scale) * q - e * least
    Q6_K  256 weights, 210 bytes   ql[128], qh[64], int8 scales[16], half d             (d * scale) * (q - 32)

Scales of 12 bytes have six bits each: 16 of Q3_K, 8 and as many `least` of Q4_K and Q5_K. A row (the last axis of a
tensor) is a whole number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Unsupported
from headrace.weights.tensor import Tensor

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)  # of IQ4_NL
FILE_TYPES = {  # llama.cpp's general.file_type
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q8_0": 7,
    "q3_k_l": 13,
    "q4_k_m": 15,
    "q5_k_m": 17,
    "q6_k": 18,
    "bf16": 32,
}
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """`block` weights lie in `block_bytes` bytes; `decode` takes blocks [n, block_bytes] to values [n, block]."""

    block: int
    block_bytes: int
    decode: Callable[[Bytes], Floats]


def layout_of(type_name: str) -> Layout:
    """The layout of a type; Unsupported names those there are."""
    if type_name not in TYPES:
        raise Unsupported(f"the weight type {type_name} is not supported: use one of {', '.join(TYPES)}")
    return TYPES[type_name]


def nbytes(type_name: str, shape: tuple[int, ...]) -> int:
    """The size of a tensor of this row-major shape; Unsupported where its rows are no whole number of blocks."""
    layout = layout_of(type_name)
    row = shape[-1] if shape else 1
    if row % layout.block:
        raise Unsupported(f"rows of {row} weights cannot be {type_name}: its blocks hold {layout.block}")
    return math.prod(shape) // layout.block * layout.block_bytes


def dequantise(tensor: Tensor) -> Floats:
    """The tensor's values as float32, in its shape; piece by piece, so that beside them little memory is used."""
    layout = layout_of(tensor.type)
    blocks = tensor.data.reshape(-1, layout.block_bytes)
    values = np.empty((len(blocks), layout.block), np.float32)
    piece = max(1, 1_000_000 // layout.block)
    with np.errstate(all="ignore"):  # scales of a damaged file may be infinite, or no numbers at all
        for start in range(0, len(blocks), piece):
            values[start : start + piece] = layout.decode(blocks[start : start + piece])
    return values.reshape(tensor.shape)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32, copy=False)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q8_0(blocks: Bytes) -> Floats:
    return _f16(_part(blocks, 0, 2)) * _part(blocks, 2, 34).view(np.int8)


def _q4_0(blocks: Bytes) -> Floats:
    return _f16(_part(blocks, 0, 2)) * (_nibbles(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _q4_1(blocks: Bytes) -> Floats:
    return _f16(_part(blocks, 0, 2)) * _nibbles(blocks[:, 4:]) + _f16(_part(blocks, 2, 4))


def _q5_0(blocks: Bytes) -> Floats:
    levels = _nibbles(blocks[:, 6:]) | _fifth_bits(_part(blocks, 2, 6))
    return _f16(_part(blocks, 0, 2)) * (levels.view(np.int8) - np.int8(16))


def _q5_1(blocks: Bytes) -> Floats:
    levels = _nibbles(blocks[:, 8:]) | _fifth_bits(_part(blocks, 4, 8))
    return _f16(_part(blocks, 0, 2)) * levels + _f16(_part(blocks, 2, 4))


def _iq4_nl(blocks: Bytes) -> Floats:
    return _f16(_part(blocks, 0, 2)) * np.array(LEVELS, np.int8)[_nibbles(blocks[:, 2:])]


def _nibbles(pairs: Bytes) -> Bytes:
    """From [n, 16] to [n, 32]: all low halves, then all high ones."""
    return np.concatenate((pairs & 15, pairs >> 4), axis=1)


def _fifth_bits(words: Bytes) -> Bytes:
    """Bit i of four bytes is worth 16 in weight i: [n, 32]."""
    bits: Bytes = np.unpackbits(words, axis=1, bitorder="little") << np.uint8(4)
    return bits


def _q3_k(blocks: Bytes) -> Floats:
    """Group g of 32 weights takes bits 2 (g % 4) of half of qs, and bit g of the third bits; where that is clear, the
    weight is 4 less. 16 weights share a scale: low halves in the first 8 bytes, the two bits above in the other 4."""
    low = blocks[:, 32:96].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3
    third = blocks[:, None, :32] >> np.arange(8, dtype=np.uint8).reshape(8, 1) & 1
    levels = (low.reshape(-1, 8, 32) | third << 2).view(np.int8) - np.int8(4)
    nibbles = np.concatenate((blocks[:, 96:104] & 15, blocks[:, 96:104] >> 4), axis=1)
    upper = (blocks[:, None, 104:108] >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3).reshape(-1, 16)
    scales: Floats = _f16(_part(blocks, 108, 110)) * ((nibbles | upper << 4).view(np.int8) - np.int8(32))
    values: Floats = scales[:, :, None] * levels.reshape(-1, 16, 16)
    return values.reshape(-1, 256)


def _q4_k(blocks: Bytes) -> Floats:
    return _with_minimum(blocks, _paired_nibbles(blocks[:, 16:]))


def _q5_k(blocks: Bytes) -> Floats:
    """Bit g of the fifth bits belongs to group g of 32 weights."""
    fifth: Bytes = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8).reshape(8, 1) & np.uint8(1)
    return _with_minimum(blocks, _paired_nibbles(blocks[:, 48:]) | fifth << np.uint8(4))


def _paired_nibbles(pairs: Bytes) -> Bytes:
    """From [n, 128] to [n, 8, 32]: 32 bytes hold one group of weights in their low halves, the next in the high."""
    four = pairs.reshape(-1, 4, 1, 32)
    return np.concatenate((four & 15, four >> 4), axis=2).reshape(-1, 8, 32)


def _with_minimum(blocks: Bytes, levels: Bytes) -> Floats:
    """Four scales and four minima in the low six bits of 8 bytes; the other four in the halves of the last 4 bytes, and
    the two bits that are left in each of the 8."""
    first, last = blocks[:, 4:12], blocks[:, 12:16]
    spare = first >> 6 << 4
    scales = np.concatenate((first[:, :4] & 63, last & 15 | spare[:, :4]), axis=1)
    least = np.concatenate((first[:, 4:] & 63, last >> 4 | spare[:, 4:]), axis=1)
    steps: Floats = _f16(_part(blocks, 0, 2)) * scales
    offsets: Floats = _f16(_part(blocks, 2, 4)) * least
    values: Floats = steps[:, :, None] * levels - offsets[:, :, None]
    return values.reshape(-1, 256)


def _q6_k(blocks: Bytes) -> Floats:
    """Half a block has four runs of 32 weights: the low nibbles of ql[0:32] and ql[32:64], then their high nibbles.
    Run r takes bits 2r and 2r + 1 of qh above its nibble; 16 weights share a scale."""
    low = blocks[:, :128].reshape(-1, 2, 64)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3
    nibbles = np.concatenate((low & 15, low >> 4), axis=2).reshape(-1, 2, 4, 32)
    levels = (nibbles | high << 4).view(np.int8) - np.int8(32)
    scales: Floats = _f16(_part(blocks, 208, 210)) * _part(blocks, 192, 208).view(np.int8)
    values: Floats = scales[:, :, None] * levels.reshape(-1, 16, 16)
    return values.reshape(-1, 256)


def _part(blocks: Bytes, start: int, stop: int) -> Bytes:
    return np.ascontiguousarray(blocks[:, start:stop])


TYPES: Mapping[str, Layout] = MappingProxyType(
    {
        "F32": Layout(1, 4, _f32),
        "F16": Layout(1, 2, _f16),
        "BF16": Layout(1, 2, _bf16),
        "Q8_0": Layout(32, 34, _q8_0),
        "Q4_0": Layout(32, 18, _q4_0),
        "Q6_K": Layout(256, 210, _q6_k),
        "Q4_1": Layout(32, 20, _q4_1),
        "Q5_0": Layout(32, 22, _q5_0),
        "Q5_1": Layout(32, 24, _q5_1),
        "IQ4_NL": Layout(32, 18, _iq4_nl),
        "Q3_K": Layout(256, 110, _q3_k),
        "Q4_K": Layout(256, 144, _q4_k),
        "Q5_K": Layout(256, 176, _q5_k),
    }
)
QUANTISED = tuple(name for name, layout in TYPES.items() if layout.block > 1)
