from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from headrace.errors import Unsupported
from headrace.weights import quantisation
from headrace.weights.quantisation import TYPES, dequantise, layout_of, nbytes
from headrace.weights.tensor import Tensor

# Where the halves of a block lie: its scale, and its minimum behind it.
HALVES = {
    **dict.fromkeys(("Q8_0", "Q4_0", "Q5_0", "IQ4_NL"), (0,)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
    "Q3_K": (108,),
    "Q6_K": (208,),
}
QUANTISED = tuple(HALVES)


def random_blocks(type_name: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows of random bytes with scales that are finite: every bit pattern of the rest is a legal weight."""
    layout = TYPES[type_name]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (rows * columns // layout.block, layout.block_bytes), dtype=np.uint8)
    for at in HALVES.get(type_name, ()):
        blocks[:, at : at + 2] = rng.standard_normal((len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def tensor_of(type_name: str, shape: tuple[int, ...], data: np.ndarray) -> Tensor:
    return Tensor("t", type_name, shape, np.ascontiguousarray(data).reshape(-1).view(np.uint8))


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the last bit, the sign of a zero included."""
    return left.dtype == right.dtype == np.float32 and np.array_equal(left.view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize("type_name", TYPES)
def test_dequantises_random_blocks_to_the_bits_of_the_gguf_package(type_name):
    data = random_blocks(type_name, 7, 1024)
    if type_name in ("F32", "F16"):
        data.view("<f4" if type_name == "F32" else "<f2")[:] = np.random.default_rng(1).standard_normal((7, 1024))
    expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[type_name])
    assert same_bits(dequantise(tensor_of(type_name, (7, 1024), data)), expected)


@pytest.mark.parametrize("type_name", QUANTISED)
def test_extreme_blocks_have_the_bits_of_the_gguf_package(type_name):
    """All bits clear, all set, and scales of every size a half has, subnormal, infinite and none beside them."""
    layout = TYPES[type_name]
    rng = np.random.default_rng(5)
    halves = np.concatenate([np.arange(0, 65536, 97), [0, 1, 0x8000, 0x8001, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00]])
    data = rng.integers(0, 256, (4 * len(halves), layout.block_bytes), dtype=np.uint8)
    data[: len(halves)] = 0
    data[len(halves) : 2 * len(halves)] = 255
    for at in HALVES[type_name]:
        scales = rng.permutation(halves.astype("<u2")) if at == 2 else halves.astype("<u2")
        data[:, at : at + 2] = np.tile(scales, 4).reshape(-1, 1).view(np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[type_name])
    found = dequantise(tensor_of(type_name, (len(data), layout.block), data))
    numbers = ~np.isnan(expected)
    assert same_bits(found[numbers], expected[numbers])
    assert np.isnan(found[~numbers]).all()
    assert not dequantise(tensor_of(type_name, (layout.block,), np.zeros(layout.block_bytes, np.uint8))).any()


@pytest.mark.parametrize("type_name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16"])
def test_dequantises_what_the_gguf_package_quantises(type_name):
    values = np.random.default_rng(2).standard_normal((3, 5, 256)).astype(np.float32)
    kind = gguf.GGMLQuantizationType[type_name]
    data = gguf.quants.quantize(values, kind)
    result = dequantise(tensor_of(type_name, values.shape, data))
    assert result.shape == values.shape
    assert same_bits(result, gguf.quants.dequantize(data, kind))
    assert np.abs(result - values).max() < 0.5  # a scale or an order gone wrong would be far off


def test_q6_k_by_its_definition():
    """ggml's loop over one block, written out, so that the vectorised form has a second witness."""
    block = random_blocks("Q6_K", 1, 256, seed=3)[0]
    low, high, scales = block[:128], block[128:192], block[192:208].view(np.int8)
    d = np.float32(block[208:].view(np.float16)[0])
    expected = np.empty(256, np.float32)
    for i in range(256):
        half, run, lane = i // 128, i % 128 // 32, i % 32
        byte = low[64 * half + 32 * (run % 2) + lane]
        nibble = byte >> 4 if run >= 2 else byte & 15
        upper = high[32 * half + lane] >> (2 * run) & 3
        expected[i] = d * np.float32(scales[i // 16]) * np.float32(int(nibble | upper << 4) - 32)
    assert same_bits(dequantise(tensor_of("Q6_K", (256,), block)), expected)


def test_bf16_equals_torch_for_every_bit_pattern():
    patterns = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(patterns.view(np.int16)).view(torch.bfloat16).float().numpy()
    result = dequantise(tensor_of("BF16", (256, 256), patterns)).reshape(-1)
    numbers = ~np.isnan(expected)
    assert same_bits(result[numbers], expected[numbers])
    assert np.isnan(result[~numbers]).all()


@pytest.mark.parametrize("type_name", TYPES)
def test_any_bytes_dequantise_without_a_warning(type_name):
    layout = TYPES[type_name]
    data = np.random.default_rng(4).integers(0, 256, 4096 * layout.block_bytes, dtype=np.uint8)
    assert dequantise(Tensor("t", type_name, (4096, layout.block), data)).shape == (4096, layout.block)


def test_tensors_longer_than_a_piece_are_whole():
    data = random_blocks("Q4_0", 1, 32).reshape(-1)
    blocks = 1_000_000 // 32 + 5
    values = dequantise(Tensor("t", "Q4_0", (blocks, 32), np.tile(data, blocks)))
    assert same_bits(values, np.tile(dequantise(Tensor("t", "Q4_0", (32,), data)), (blocks, 1)))


def test_sizes_are_those_of_the_gguf_package():
    for type_name, layout in TYPES.items():
        block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
        assert (layout.block, layout.block_bytes) == (block, block_bytes)
        assert nbytes(type_name, (3, 4, 512)) == 3 * 4 * 512 // block * block_bytes
    assert nbytes("F32", ()) == 4


def test_the_quantised_types_are_those_with_blocks():
    assert set(quantisation.QUANTISED) == set(QUANTISED)


def test_what_has_no_layout_is_refused():
    with pytest.raises(Unsupported, match=r"Q2_K is not supported: use one of F32, F16, BF16, Q8_0, Q4_0, Q6_K, Q4_1"):
        layout_of("Q2_K")
    with pytest.raises(Unsupported, match="rows of 48 weights cannot be Q8_0: its blocks hold 32"):
        nbytes("Q8_0", (32, 48))
