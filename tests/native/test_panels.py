"""Panels: the same bits as rows, in another order, by every instruction set that reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace import _core
from headrace.plan import Plan
from headrace.weights.tensor import Tensor
from tests.native.builders import BLOCK, BLOCK_BYTES, QUANTISED, batch, float_tensor, model, random_tensor, tensors

READERS = [(isa, kind) for isa in _core.isas() for kind in _core.panel_types(isa)]


def in_panels(tensor: Tensor) -> Tensor:
    rows, columns = tensor.shape
    return Tensor(
        tensor.name, tensor.type + "/panels", tensor.shape, _core.to_panels(tensor.type, rows, columns, tensor.data)
    )


def product(x: Any, weight: Tensor, isa: str, threads: int = 1) -> Any:
    """x @ weight.T; the embedding table is x, and token i asks for its row i."""
    plan = Plan()
    plan.add("linear", plan.add("embed", weights=["embed"]), weights=["weight"])
    plan.add("linear", plan.add("select", 1), weights=["head"])
    head = float_tensor("F32", np.zeros((len(x), weight.shape[0])))
    weights = tensors({"embed": float_tensor("F32", x), "weight": weight, "head": head})
    native = model(plan, weights, isa=isa, threads=threads)
    return native.values(batch([range(len(x))], blocks=[range(-(-len(x) // 16))], rows=[]))[1]


def test_the_readable_twin_reads_all_and_the_fast_one_too() -> None:
    assert set(_core.panel_types("scalar")) == set(QUANTISED)
    if "avx512vnni" in _core.isas():
        assert set(_core.panel_types()) == set(QUANTISED)


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize(("rows", "columns"), [(32, 256), (96, 512), (64, 1024)])
def test_the_order_can_be_undone(kind: str, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    tensor = Tensor("w", kind, (rows, columns), rng.integers(0, 256, rows * size(kind, columns), dtype=np.uint8))
    panels = in_panels(tensor)
    assert (panels.data != tensor.data).any()
    assert _core.from_panels(kind, rows, columns, panels.data).tobytes() == tensor.data.tobytes()


def size(kind: str, columns: int) -> int:
    return columns // BLOCK[kind] * BLOCK_BYTES[kind]


@pytest.mark.parametrize(("reader", "kind"), READERS)
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("tokens", [*range(1, 20), 131, 132, 133, 140])
def test_the_bits_are_those_of_rows(reader: str, kind: str, blocks: int, tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    x = rng.standard_normal((tokens, blocks * BLOCK[kind]), np.float32)
    weight = random_tensor(rng, kind, 96, x.shape[1])
    expected = product(x, weight, "scalar")
    found = product(x, in_panels(weight), reader)
    assert found.tobytes() == product(x, weight, reader).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("reader", "kind"), READERS)
def test_extreme_numbers_have_the_bits_of_rows(reader: str, kind: str) -> None:
    """Zeros, a spike, denormals, huge and tiny numbers, NaN and infinity beside them."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((11, 512), np.float32)
    x[0] = 0
    x[1, 32:64], x[1, 70] = 0, 1000
    x[2] *= 1e-40
    x[3] *= 1e30
    x[4, 100] = np.nan
    x[5, 7] = np.inf
    x[6] = 127
    x[7] = -1e-44
    weight = random_tensor(rng, kind, 64, 512)
    weight.data[: weight.data.size // 2] |= 0x70 if kind != "Q6_K" else 0
    found, expected = product(x, in_panels(weight), reader), product(x, weight, reader)
    numbers = ~np.isnan(expected)  # which NaN a product of two of them is, is the compiler's choice
    np.testing.assert_array_equal(np.isnan(found), ~numbers)
    assert np.isfinite(found[[0, 1, 2, 6, 8]]).all() or kind != "Q6_K"
    assert found[numbers].tobytes() == expected[numbers].tobytes()


@pytest.mark.parametrize(("reader", "kind"), READERS)
def test_threads_do_not_change_a_bit(reader: str, kind: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((37, 512), np.float32)
    panels = in_panels(random_tensor(rng, kind, 160, 512))
    assert product(x, panels, reader, threads=3).tobytes() == product(x, panels, reader).tobytes()


def test_what_has_no_panels_is_refused() -> None:
    rng = np.random.default_rng(5)
    tensor = random_tensor(rng, "Q4_0", 33, 64)
    with pytest.raises(ValueError, match="33 rows"):
        _core.to_panels("Q4_0", 33, 64, tensor.data)
    with pytest.raises(ValueError, match="F16"):
        _core.to_panels("F16", 32, 64, np.zeros(32 * 128, np.uint8))
    if "avx2" in _core.isas():
        weight = in_panels(random_tensor(rng, "Q4_0", 32, 64))
        with pytest.raises(ValueError, match=r"panels of Q4_0.*avx2"):
            product(np.zeros((1, 64), np.float32), weight, "avx2")
