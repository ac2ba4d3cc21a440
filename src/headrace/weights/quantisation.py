"""The storage types of GGML: the weights a block holds, the bytes it takes, and the float32 values it stands for.

Layouts and formulae are those of ggml (`ggml-common.h`, `dequantize_row_*`), and the results have the same bits:

    F32, F16, BF16   one weight a block
    Q8_0   32 weights, 34 bytes    half d, int8 q[32]                                   d * q
    Q4_0   32 weights, 18 bytes    half d, 16 bytes: weight i low half, i + 16 high     d * (q - 8)
    Q4_1   32 weights, 20 bytes    half d, half m, 16 bytes as in Q4_0                  d * q + m
    Q6_K  256 weights, 210 bytes   ql[128], qh[64], int8 scales[16], half d             (d * scale) * (q - 32)

A row (the last axis of a tensor) is a whole number of blocks.
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

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # llama.cpp's general.file_type
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
    pairs = blocks[:, 2:]
    levels = np.concatenate((pairs & 15, pairs >> 4), axis=1).view(np.int8) - np.int8(8)
    return _f16(_part(blocks, 0, 2)) * levels


def _q4_1(blocks: Bytes) -> Floats:
    pairs = blocks[:, 4:]
    levels = np.concatenate((pairs & 15, pairs >> 4), axis=1)
    values: Floats = _f16(_part(blocks, 0, 2)) * levels + _f16(_part(blocks, 2, 4))
    return values


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
    }
)
