"""A plan, weights or options that do not fit each other raise ValueError with a sentence when the model is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from headrace.plan import Plan
from headrace.weights.tensor import Tensor
from tests.native.builders import batch, float_tensor, hybrid, model

Edit = Callable[[Plan, dict[str, tuple[Tensor, ...]]], None]


def change(op: str, /, **fields: Any) -> Edit:
    def edit(plan: Plan, _: Any) -> None:
        at = next(i for i, step in enumerate(plan.steps) if step.op == op)
        plan.steps[at] = replace(plan.steps[at], **fields)

    return edit


def attribute(op: str, **values: Any) -> Edit:
    def edit(plan: Plan, _: Any) -> None:
        at = next(i for i, step in enumerate(plan.steps) if step.op == op)
        kept = {**plan.steps[at].attributes, **values}
        kept = {name: value for name, value in kept.items() if value is not None}
        plan.steps[at] = replace(plan.steps[at], attributes=MappingProxyType(kept))

    return edit


def weight(name: str, *tensors: Tensor) -> Edit:
    def edit(_: Plan, weights: dict[str, tuple[Tensor, ...]]) -> None:
        weights[name] = tensors

    return edit


def zeros(rows: int, columns: int, kind: str = "F32") -> Tensor:
    return float_tensor(kind, np.zeros((rows, columns)))


def shorter(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.type, tensor.shape, tensor.data[:-1])


def hollow(kind: str, rows: int) -> Tensor:
    """A matrix whose bytes are not there."""
    return Tensor("hollow", kind, (rows, 64), np.zeros(8, np.uint8))


BAD: list[tuple[Edit, str]] = [
    (lambda p, _: p.steps.clear(), "the plan has no steps"),
    (lambda p, _: p.steps.pop(), "the plan must end in logits: 67 numbers for each selected row"),
    (change("norm", op="morn"), "step 1 (morn): there is no such operation"),
    (change("norm", inputs=(1,)), "step 1 (norm) reads step 1: expected an earlier one"),
    (change("norm", inputs=(-1,)), "step 1 (norm) reads step -1"),
    (change("norm", inputs=(2**40,)), "step 1 (norm) reads step 1099511627776"),
    (change("norm", inputs=()), "step 1 (norm) has 0 inputs: expected 1"),
    (change("norm", weights=("nothing",)), "step 1 (norm): there is no weight nothing"),
    (change("norm", weights=()), "step 1 (norm) names 0 weights: expected 1"),
    (attribute("norm", eps=None), "step 1 (norm) lacks the attribute eps"),
    (attribute("norm", eps=-1.0), "step 1 (norm): eps is -1"),
    (attribute("norm", eps=float("nan")), "eps is not a finite number"),
    (change("embed", inputs=(0,)), "step 0 (embed) reads step 0"),
    (change("add", inputs=(0, 2)), "adds widths 64 and 192"),
    (change("linear", weights=()), "names 0 weights: expected one or more matrices"),
    (change("conv", inputs=(0,)), "has an input of width 64: expected a multiple of 3"),
    (attribute("conv", slot=5), "the plan's convolution slots skip 0"),
    (attribute("conv", slot=1), "slot 1 is taken by an earlier convolution"),
    (attribute("conv", slot=0.5), "slot is 0.5: expected a whole number"),
    (attribute("conv", slot=-1), "slot is -1"),
    (attribute("attend", heads=0), "heads is 0: expected a whole number from 1"),
    (attribute("attend", heads=3), "3 heads are no multiple of 2 kv_heads"),
    (attribute("attend", kv_heads=5), "kv_heads is 5"),
    (attribute("attend", heads=2**24, kv_heads=1), "has inputs of width 128"),
    (attribute("attend", head_dim=15), "head_dim is 15: expected an even number"),
    (attribute("attend", theta=0.0), "theta is 0: expected a positive number"),
    (attribute("attend", qk_norm=False), "names 2 weights: expected 0"),
    (attribute("attend", factors=True), "names 2 weights: expected 3"),
    (attribute("attend", slot=1), "slot 1 is taken by an earlier attention"),
    (attribute("route", top_k=0), "top_k is 0: expected a whole number from 1 to 5"),
    (attribute("route", top_k=6), "top_k is 6"),
    (attribute("route", normalise=None), "lacks the attribute normalise"),
    (change("experts", inputs=(0, 1)), "the second input must be a route"),
    (weight("embed", zeros(66, 64)), "weight embed has shape [66, 64]: expected [67, 64]"),
    (weight("embed"), "weight embed must be one matrix"),
    (weight("cn0", zeros(1, 63)), "weight cn0 has shape [1, 63]: expected [1, 64]"),
    (weight("cn0", zeros(1, 64, "F16")), "weight cn0 has type F16: expected F32"),
    (weight("cn0", zeros(1, 64), zeros(1, 64)), "weight cn0 has 2 matrices: expected one"),
    (weight("taps0", zeros(64, 3), zeros(64, 3)), "weight taps0 has 2 matrices"),
    (weight("taps0"), "weight taps0 has 0 matrices"),
    (weight("router"), "weight router has 0 matrices"),
    (weight("w1", *[zeros(96, 64)] * 4), "weight w1 has 4 matrices: expected one for each of 5 experts"),
    (weight("w1"), "weight w1 has 0 matrices"),
    (weight("w3", *[zeros(95, 64)] * 5), "weight w3 has shape [95, 64]: expected [96, 64]"),
    (weight("w2", *[zeros(64, 95)] * 5), "weight w2 has shape [64, 95]: expected [64, 96]"),
    (weight("gate", shorter(zeros(96, 64))), "weight gate has 24575 bytes: F32 of shape [96, 64] takes 24576"),
    (weight("gate", hollow("Q2_K", 96)), "weight gate has type Q2_K: expected one of F32, F16, BF16, Q8_0"),
    (weight("gate", hollow("Q6_K", 96)), "weight gate has 64 columns: Q6_K needs a multiple of 256"),
    (weight("gate", hollow("F32", 0)), "weight gate has shape [0, 64]: expected positive sides"),
    (weight("gate", hollow("F32", 2**40)), "weight gate has shape [1099511627776, 64]: expected positive sides"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "sentence"), BAD)
def test_what_does_not_fit_is_named(edit: Edit, sentence: str) -> None:
    plan, weights = hybrid(np.random.default_rng(0))
    edited = dict(weights)
    edit(plan, edited)
    with pytest.raises(ValueError, match=r"^[a-z].*") as error:
        model(plan, edited, vocab_size=67)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"block_tokens": 24}, "block_tokens is 24: expected a multiple of 64"),
        ({"block_tokens": 0}, "block_tokens is 0"),
        ({"blocks": 0}, "blocks is 0: expected a positive number"),
        ({"blocks": 2**31 - 1}, "cache blocks of 8389632 bytes do not fit this machine's memory: ask for fewer"),
        ({"draft_slots": -1}, "draft_slots is -1: expected 0 to 1048576"),
        ({"draft_slots": 2**20 + 1}, "draft_slots is 1048577"),
        ({"max_rewind": -1}, "max_rewind is -1: expected 0 to 65536"),
        ({"max_rewind": 2**16 + 1}, "max_rewind is 65537"),
        ({"threads": 0}, "threads is 0: expected 1 to 1024"),
        ({"threads": 2000}, "threads is 2000"),
        ({"kv": "int3"}, "kv is int3: expected fp16, fp32 or int8"),
        ({"isa": "avx9"}, "instruction set avx9 is not usable here: this machine has"),
        ({"vocab_size": -5}, "vocab_size is -5"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], sentence: str) -> None:
    plan, weights = hybrid(np.random.default_rng(0), head_dim=128, heads=64, kv_heads=64)
    with pytest.raises(ValueError, match=r"expected|fit|usable") as error:
        model(plan, weights, **options)
    assert sentence in str(error.value)


def test_the_bytes_of_weights_are_kept_alive() -> None:
    plan, weights = hybrid(np.random.default_rng(0), "Q4_0")
    native = model(plan, weights)
    expected = native.logits(batch([[1, 2, 3]]))
    del weights
    ballast = [np.full(1 << 16, 255, np.uint8) for _ in range(200)]
    np.testing.assert_array_equal(native.logits(batch([[1, 2, 3]])), expected)
    assert len(ballast) == 200


def test_state_may_not_follow_select() -> None:
    plan, weights = hybrid(np.random.default_rng(0))
    plan.steps.insert(1, replace(plan.steps[-2], inputs=(0,)))
    plan.steps = [s if i < 2 else replace(s, inputs=tuple(v + 1 for v in s.inputs)) for i, s in enumerate(plan.steps)]
    with pytest.raises(ValueError, match="keeps state, so it must stand before select"):
        model(plan, weights)
