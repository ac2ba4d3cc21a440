"""The quantisers against the gguf package: its bytes where it writes a type, its values where it reads one."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.errors import Unsupported
from headrace.weights.quantisation import dequantise
from headrace.weights.rounding import ENCODERS, quantise
from headrace.weights.tensor import Tensor

WRITTEN = ("F16", "BF16", "Q8_0", "Q4_0")  # by the package


def values(seed: int = 0, rows: int = 16) -> Any:
    """Rows of very different size, one of zeros, one with a lone outlier."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 512)) * np.exp(2 * random.standard_normal((rows, 1)))
    x[1], x[2, 7] = 0, 1000
    return x.astype(np.float32)


def package(x: Any, kind: str) -> Any:
    return gguf.quants.quantize(x, gguf.GGMLQuantizationType[kind]).view(np.uint8).reshape(-1)


def decoded(encoded: Any, kind: str, shape: tuple[int, ...]) -> Any:
    return dequantise(Tensor("x", kind, shape, encoded))


@pytest.mark.parametrize("kind", WRITTEN)
def test_bytes_are_the_packages(kind: str) -> None:
    x = values()
    np.testing.assert_array_equal(quantise(x, kind), package(x, kind))


@pytest.mark.parametrize("kind", WRITTEN)
@given(arrays.arrays(np.float32, (2, 32), elements=st.floats(-1e4, 1e4, width=32)))
def test_bytes_are_the_packages_whatever_the_values(kind: str, x: Any) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(quantise(x, kind), package(x, kind))


@pytest.mark.parametrize(("kind", "levels"), [("Q8_0", 254), ("Q4_0", 16), ("Q6_K", 64)])
def test_no_value_moves_by_more_than_a_step(kind: str, levels: int) -> None:
    """A step is the span of a group's levels; fp16 scales and Q6_K's int8 sub-scales may add a twentieth of it."""
    x = values()
    error = np.abs(decoded(quantise(x, kind), kind, x.shape) - x).reshape(-1, 16)
    span = 2 * np.abs(x).reshape(-1, 16 if kind == "Q6_K" else 32).max(axis=1, keepdims=True)
    step = np.repeat(span / levels, 1 if kind == "Q6_K" else 2, axis=0)
    sub_scale = (
        np.repeat(np.abs(x).reshape(-1, 256).max(axis=1, keepdims=True), 16, axis=0) / 128 if kind == "Q6_K" else 0
    )
    assert (error <= 1.05 * step + sub_scale).all()


def test_q6_k_is_read_alike_by_the_package_and_beats_plain_rounding() -> None:
    x = values()
    encoded = quantise(x, "Q6_K")
    ours = decoded(encoded, "Q6_K", x.shape)
    theirs = gguf.quants.dequantize(encoded.reshape(len(x), -1), gguf.GGMLQuantizationType.Q6_K)
    np.testing.assert_array_equal(ours, theirs)
    random = np.random.default_rng(1).standard_normal((16, 512)).astype(np.float32)
    error = decoded(quantise(random, "Q6_K"), "Q6_K", random.shape) - random
    # Uniform steps of amax / 32 would leave 1 / sqrt(12) of a step: about 2.2 % of normal values in groups of 16.
    assert np.sqrt(np.mean(error**2)) < 0.0200


@pytest.mark.parametrize("kind", ENCODERS)
def test_zeros_stay_zeros(kind: str) -> None:
    assert not decoded(quantise(np.zeros((2, 256), np.float32), kind), kind, (2, 256)).any()


def test_nan_stays_nan_in_bf16() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    np.testing.assert_array_equal(decoded(quantise(x, "BF16"), "BF16", (1, 4)), x)


def test_rows_without_whole_blocks_are_refused() -> None:
    with pytest.raises(Unsupported, match="rows of 48 weights cannot be Q4_0: its blocks hold 32"):
        quantise(np.zeros((2, 48), np.float32), "Q4_0")


def test_bf16_rounds_ties_to_even() -> None:
    """1 + 2^-8 lies between 1 and 1 + 2^-7, 1 + 3 2^-8 between 1 + 2^-7 and 1 + 2^-6: both go to the even one."""
    x = np.array([[1 + 2**-8, 1 + 3 * 2**-8]], np.float32)
    np.testing.assert_array_equal(decoded(quantise(x, "BF16"), "BF16", (1, 2)), [[1, 1 + 2**-6]])
