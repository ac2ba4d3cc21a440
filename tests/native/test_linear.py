"""Each linear kernel, on each instruction set, beside its definition (native/kernels/kernels.h) in NumPy."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace import _core
from headrace.plan import Plan
from headrace.weights.tensor import Tensor
from tests.native.builders import (
    BLOCK,
    BLOCK_BYTES,
    LEVELS_AT,
    QUANTISED,
    SCALE_AT,
    batch,
    float_tensor,
    minima,
    model,
    numbers,
    quantise,
    random_tensor,
    tensors,
)

FLOATS = ("F32", "F16", "BF16")
EPSILON = 2.0**-24  # half the distance of neighbouring float32, relative


def run_linear(x: NDArray[np.float32], weight: Tensor, isa: str, threads: int = 1, per_call: int = 0) -> Any:
    """x @ weight.T through the core: the embedding table is x, and token i asks for its row i."""
    plan = Plan()
    plan.add("linear", plan.add("embed", weights=["embed"]), weights=["weight"])
    plan.add("linear", plan.add("select", 1), weights=["head"])
    head = float_tensor("F32", np.zeros((len(x), weight.shape[0])))
    weights = tensors({"embed": float_tensor("F32", x), "weight": weight, "head": head})
    native = model(plan, weights, isa=isa, threads=threads)
    size = per_call or len(x)
    calls = [range(i, min(i + size, len(x))) for i in range(0, len(x), size)]
    return np.concatenate([native.values(batch([call], blocks=[range(8)], rows=[]))[1] for call in calls])


def definition(x: NDArray[np.float32], weight: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact product, and the sum of the magnitudes of what fp32 adds up: products, or whole groups of 32, those of
    the minima apart."""
    w = numbers(weight)
    if weight.type in FLOATS:
        return x.astype(np.float64) @ w.T, np.abs(x).astype(np.float64) @ np.abs(w).T
    q, scale = quantise(x)
    activations, least = q * scale.astype(np.float64)[:, :, None], minima(weight)
    levels, minimum = (
        np.einsum("mgk,ngk->mng", activations, part.reshape(len(w), -1, 32)) for part in (w - least, least)
    )
    return (levels + minimum).sum(axis=2), (np.abs(levels) + np.abs(minimum)).sum(axis=2)


def check(x: NDArray[np.float32], weight: Tensor, isa: str) -> None:
    expected, magnitude = definition(x, weight)
    steps = weight.shape[1] if weight.type in FLOATS else weight.shape[1] // 32 + 5
    denormal = 2.0**-148 * weight.shape[1]
    error = np.abs(run_linear(x, weight, isa) - expected)
    assert (error <= steps * EPSILON * magnitude + denormal).all()


def test_this_machine_has_instruction_sets() -> None:
    assert _core.isas()[-1] == "scalar"
    if platform.machine() == "x86_64" and Path("/proc/cpuinfo").exists():
        flags = set(Path("/proc/cpuinfo").read_text().split())
        assert ("avx2" in _core.isas()) == ({"avx2", "fma", "f16c"} <= flags)
        vnni = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}
        assert ("avx512vnni" in _core.isas()) == (vnni <= flags)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("columns", [*range(1, 19), 31, 32, 33, 47, 63, 64, 65, 200])
def test_float_weights_of_every_width(isa: str, kind: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    for tokens, rows in [(1, 1), (3, 7), (4, 4), (9, 18)]:
        check(rng.standard_normal((tokens, columns), np.float32), random_tensor(rng, kind, rows, columns), isa)


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("tokens", [*range(1, 18), 33])
def test_quantised_weights_around_the_tiles(isa: str, kind: str, blocks: int, tokens: int) -> None:
    rng = np.random.default_rng(100 * blocks + tokens)
    columns = blocks * BLOCK[kind]
    x = rng.standard_normal((tokens, columns), np.float32)
    for rows in (1, 7, 8, 9, 15, 16, 17, 33):
        check(x, random_tensor(rng, kind, rows, columns), isa)


@pytest.mark.parametrize("kind", FLOATS + QUANTISED)
def test_extreme_numbers(isa: str, kind: str) -> None:
    """Groups of zeros, of one spike, of denormals, of huge and of tiny numbers, and the ends of every integer range."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 512), np.float32)
    x[0] = 0
    x[1, 32:64], x[1, 70] = 0, 1000
    x[2] *= 1e-40
    x[3] *= 1e30
    x[4] = np.where(rng.random(512) < 0.5, -1, 1)
    x[5, :256] *= 1e-35
    x[6, 256:] = 0
    x[7] = 127
    x[8] = 1e-44
    weight = random_tensor(rng, kind, 33, 512)
    weight.data[: weight.data.size // 3] |= 0 if kind in FLOATS else _all_ones(kind, weight)
    check(x, weight, isa)


def _all_ones(kind: str, weight: Tensor) -> Any:
    """Bits that make every weight of the first rows as large as the format has it, and leave the scales alone."""
    ones = np.full(weight.data.size // 3, 255, np.uint8)
    offset = np.arange(len(ones)) % BLOCK_BYTES[kind]
    ones[(offset >= SCALE_AT[kind]) & (offset < SCALE_AT[kind] + (4 if kind in LEVELS_AT else 2))] = 0
    if kind == "Q6_K":
        ones[offset >= 192] = 0
    return ones


@pytest.mark.parametrize("kind", FLOATS + QUANTISED)
def test_nan_stays_in_its_row(isa: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 256), np.float32)
    clean = run_linear(x, weight := random_tensor(rng, kind, 20, 256), isa)
    x[2, 100] = np.nan
    x[3, 7] = np.inf
    found = run_linear(x, weight, isa)
    assert np.isnan(found[2]).all()
    assert not np.isfinite(found[3]).any()
    np.testing.assert_array_equal(found[[0, 1, 4]], clean[[0, 1, 4]])


@pytest.mark.parametrize("kind", FLOATS + QUANTISED)
@pytest.mark.parametrize("columns", [256, 768])
def test_bits_do_not_depend_on_the_batch(isa: str, kind: str, columns: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((21, columns), np.float32)
    weight = random_tensor(rng, kind, 43, columns)
    together = run_linear(x, weight, isa)
    for size in (1, 2, 3, 4, 7, 8, 13):
        np.testing.assert_array_equal(run_linear(x, weight, isa, per_call=size), together)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(run_linear(x, weight, isa, threads=threads), together)


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page of memory by Linux's mprotect")
@pytest.mark.parametrize("kind", FLOATS + QUANTISED)
def test_nothing_is_read_past_the_weights(isa: str, kind: str) -> None:
    """The weights end where a page begins that may not be read: a kernel that goes on kills the process."""
    rng = np.random.default_rng(6)
    pages = mmap.mmap(-1, 32 * mmap.PAGESIZE)
    memory = np.frombuffer(pages, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    last = memory.ctypes.data + 31 * mmap.PAGESIZE
    assert libc.mprotect(ctypes.c_void_p(last), mmap.PAGESIZE, 0) == 0
    for rows in (1, 3, 17):
        weight = random_tensor(rng, kind, rows, 256)
        place = memory[31 * mmap.PAGESIZE - weight.data.size : 31 * mmap.PAGESIZE]
        place[:] = weight.data
        guarded = Tensor(kind, kind, weight.shape, place)
        x = rng.standard_normal((9, 256), np.float32)
        np.testing.assert_array_equal(run_linear(x, guarded, isa), run_linear(x, weight, isa))


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_kernels_agree_to_the_bit(kind: str) -> None:
    """Their sums are the same on every instruction set: integers within a group, then one group after the other."""
    rng = np.random.default_rng(4)
    x, weight = rng.standard_normal((11, 512), np.float32), random_tensor(rng, kind, 37, 512)
    first, *others = [run_linear(x, weight, isa) for isa in _core.isas()]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("kind", FLOATS + QUANTISED)
def test_embedding_rows_are_exact(kind: str) -> None:
    weight = random_tensor(np.random.default_rng(5), kind, 9, 512)
    plan = Plan()
    plan.add("linear", plan.add("select", plan.add("embed", weights=["embed"])), weights=["embed"])
    found = model(plan, {"embed": (weight,)}).values(batch([range(9)]))[0]
    np.testing.assert_array_equal(found, numbers(weight).astype(np.float32))
