"""Float32 values to the storage types of GGML: the inverse of `quantisation.dequantise`, by ggml's own rules.

Each encoder takes blocks [n, block] and gives bytes [n, block_bytes], laid out as `quantisation` describes. The rules
are those of `quantize_row_*_ref` in ggml-quants.c, so that a file converted here is the one that llama.cpp would write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Unsupported
from headrace.weights.quantisation import layout_of

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
PIECE = 1 << 20  # weights encoded at once: beside the result little memory is used


def quantise(values: Floats, type_name: str) -> Bytes:
    """The bytes of float32 `values` [..., K] in a storage type. Raises Unsupported for a type or a K without blocks."""
    layout = layout_of(type_name)
    if values.shape[-1] % layout.block:
        raise Unsupported(f"rows of {values.shape[-1]} weights cannot be {type_name}: its blocks hold {layout.block}")
    blocks = values.reshape(-1, layout.block)
    encoded = np.empty((len(blocks), layout.block_bytes), np.uint8)
    count = max(1, PIECE // layout.block)
    for start in range(0, len(blocks), count):
        piece = slice(start, start + count)
        encoded[piece] = ENCODERS[type_name](np.ascontiguousarray(blocks[piece], np.float32))
    return encoded.reshape(-1)


def _f32(blocks: Floats) -> Bytes:
    return blocks.view(np.uint8)


def _f16(blocks: Floats) -> Bytes:
    with np.errstate(over="ignore"):  # a weight beyond fp16 becomes infinite, as in every converter
        return blocks.astype("<f2").view(np.uint8)


def _bf16(blocks: Floats) -> Bytes:
    """Rounded half to even; a NaN stays one."""
    bits = blocks.view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(blocks), bits >> 16 | 64, rounded).astype("<u2").view(np.uint8)


def _q8_0(blocks: Floats) -> Bytes:
    d = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    levels = _round_away(blocks * _inverse(d)).astype(np.int8)
    return np.concatenate([_half(d), levels.view(np.uint8)], axis=1)


def _q4_0(blocks: Floats) -> Bytes:
    """The largest weight, with its sign, becomes level -8: exact, and on the side that has a level more."""
    d = _extreme(blocks) / np.float32(-8)
    levels = np.trunc(blocks * _inverse(d) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.concatenate([_half(d), levels[:, :16] | levels[:, 16:] << 4], axis=1)


def _q6_k(blocks: Floats) -> Bytes:
    """Sixteen scales a block, each the best of 19 tried for its 16 weights, then rounded to int8 under a common one."""
    groups = blocks.reshape(-1, 16)
    scales = _best_scales(groups).reshape(-1, 16)
    d = _extreme(scales) / np.float32(-128)
    rounded = _nearest(scales * _inverse(d)).clip(-128, 127)
    d = d.astype(np.float16).astype(np.float32)
    steps = (d * rounded).reshape(-1, 1)
    levels = (_nearest(groups * _inverse(steps)).clip(-32, 31) + 32).astype(np.uint8)
    halves = levels.reshape(-1, 2, 4, 32)  # half a block, its four runs: see quantisation._q6_k
    low = (halves[:, :, :2] & 15 | (halves[:, :, 2:] & 15) << 4).reshape(-1, 128)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(4, 1)
    high = np.bitwise_or.reduce(halves >> 4 << shifts, axis=2).reshape(-1, 64)
    return np.concatenate([low, high, rounded.astype(np.int8).view(np.uint8), _half(d)], axis=1)


def _best_scales(groups: Floats) -> Floats:
    """Of 19 scales about the one that maps the largest weight to -32: the least squared error, weighted by x^2."""
    extreme = _extreme(groups)
    weight = groups * groups
    best = np.full(extreme.shape, -1, np.float32)
    scale = np.zeros_like(extreme)
    for step in (0, *range(-9, 0), *range(1, 10)):
        tried = np.float32(-(32 + 0.1 * step)) * _inverse(extreme)
        levels = _nearest(tried * groups).clip(-32, 31)
        dot = (weight * groups * levels).sum(axis=1, keepdims=True, dtype=np.float32)
        square = (weight * levels * levels).sum(axis=1, keepdims=True, dtype=np.float32)
        found = dot * _inverse(square)
        better = dot * found > best
        best, scale = np.where(better, dot * found, best), np.where(better, found, scale)
    return np.where(np.abs(extreme) < 1e-15, np.float32(0), scale)


def _extreme(blocks: Floats) -> Floats:
    """The value of largest magnitude in each row, with its sign: [n, 1]."""
    return np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)


def _inverse(x: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(x == 0, np.float32(0), np.float32(1) / x)


def _nearest(x: Floats) -> Floats:
    """Half to even, as ggml's nearest_int."""
    return np.rint(x)


def _round_away(x: Floats) -> Floats:
    """Half away from zero, as C's roundf."""
    return np.trunc(x + np.copysign(np.float32(0.5), x))


def _half(d: Floats) -> Bytes:
    return d.astype("<f2").view(np.uint8)


ENCODERS: Mapping[str, Callable[[Floats], Bytes]] = MappingProxyType(
    {"F32": _f32, "F16": _f16, "BF16": _bf16, "Q8_0": _q8_0, "Q4_0": _q4_0, "Q6_K": _q6_k}
)
