"""Every operation on every instruction set, at odd shapes, beside the NumPy interpreter on the same inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from headrace.plan import Plan, Step, fuse
from headrace.reference import Context, Reference, Routing, State
from headrace.weights.tensor import Weights
from tests.native.builders import batch, float_tensor, hybrid, model, tensors

SHAPES: list[dict[str, Any]] = [
    {},
    {"heads": 1, "kv_heads": 1, "head_dim": 2, "hidden": 1, "inner": 1, "experts": 1, "top_k": 1},
    {"heads": 5, "kv_heads": 1, "head_dim": 6, "hidden": 33, "inner": 7, "taps": 1},
    {"heads": 6, "kv_heads": 3, "head_dim": 24, "hidden": 17, "inner": 31, "taps": 2, "bias": True},
    {"heads": 9, "kv_heads": 1, "head_dim": 64, "hidden": 50, "inner": 65, "taps": 4, "conv_bias": False},
    {"heads": 4, "kv_heads": 4, "head_dim": 80, "hidden": 48, "taps": 20, "normalise": False},
    {"heads": 8, "kv_heads": 2, "head_dim": 128, "experts": 40, "top_k": 40, "expert_bias": False},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fused", [False, True])
def test_each_step_equals_the_reference(isa: str, shape: dict[str, Any], fused: bool) -> None:
    """float32 throughout: within 4e-6 of the range of a step's value, 32 times its last bit."""
    rng = np.random.default_rng(7)
    plan, weights = hybrid(rng, **shape)
    plan = fuse(plan) if fused and not shape.get("bias") else plan
    native, state = model(plan, weights, isa=isa, threads=2), State()
    reference = Reference(plan, weights)
    for position, count in [(0, 70), (70, 1), (71, 19)]:  # across chunks of 64 and blocks of 16 positions
        tokens = rng.integers(0, 67, count)
        work = batch([tokens], [position], [range(3, 12)], rows=range(0, count, 2))
        context = Context(tokens, work.rows, state)
        values = native.values(work)
        for step, found in zip(plan.steps, values, strict=True):
            expected = expect(reference, step, [as_input(plan.steps[i], values[i]) for i in step.inputs], context)
            assert found.shape == expected.shape, step.op
            assert np.abs(found - expected).max() <= 4e-6 * max(1, np.ptp(expected)), (step, position)
        state.position += count


def expect(reference: Reference, step: Step, inputs: list[Any], context: Context) -> Any:
    expected = reference._run(step, inputs, context)
    return np.concatenate([expected.experts, expected.weights], axis=1) if isinstance(expected, Routing) else expected


def as_input(step: Step, value: Any) -> Any:
    if step.op != "route":
        return value
    experts, weights = np.split(value, 2, axis=1)
    return Routing(experts.astype(np.int64), weights)


@pytest.mark.parametrize("position", [0, 1000, 100_000])
def test_rotation_matches_transformers_at_long_positions(isa: str, position: int) -> None:
    """float32 angles: in double precision, dimension 1 at position 100,000 would be off by 4e-3."""
    head_dim, theta = 64, 1e6
    plan, weights = attention_only(head_dim, theta)
    native = model(plan, weights, isa=isa, blocks=2 + position // 16)
    blocks = [range(1 + (position + 2) // 16)]
    # Two equal keys but for their rotation: their scores, and so the output, depend on the angles.
    native.values(batch([[0]], [position], blocks, rows=[]))
    found = native.values(batch([[1]], [position + 1], blocks, rows=[]))[1][0]
    inverse = 1 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = (torch.tensor([position, position + 1])[:, None].float() * inverse).double().numpy()
    q = numpy_rotate(weights["embed"][0], angles[1])
    k = np.stack([numpy_rotate(weights["embed"][0], a) for a in angles])
    scores = k @ q / np.sqrt(head_dim)
    if position:  # the cache before these two holds zeros, whose scores are 0
        scores = np.concatenate([np.zeros(position), scores])
    share = np.exp(scores - scores.max())
    expected = share[-1] / share.sum()  # values: 0 for token 0, 1 for token 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def attention_only(head_dim: int, theta: float) -> tuple[Plan, Weights]:
    row = np.random.default_rng(8).standard_normal(head_dim).astype(np.float32)
    table = np.stack([np.concatenate([row, row, np.full(head_dim, v, np.float32)]) for v in (0, 1)])
    plan = Plan()
    x = plan.add("embed", weights=["embed"])
    ones = float_tensor("F32", np.full((1, head_dim), 1.0))
    y = plan.add("attend", x, weights=["n", "n"], slot=0, heads=1, kv_heads=1, head_dim=head_dim, eps=0.0, theta=theta)
    plan.add("linear", plan.add("select", y), weights=["head"])
    return plan, tensors(
        {"embed": float_tensor("F32", table), "n": ones, "head": float_tensor("F32", np.zeros((2, head_dim)))}
    )


def numpy_rotate(table: Any, angles: Any) -> Any:
    x = table.data.view(np.float32)[: len(angles) * 2].astype(np.float64)
    x = x / np.sqrt(np.mean(x * x))
    first, second = np.split(x, 2)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin])


def test_expert_ties_go_to_the_lower_number(isa: str) -> None:
    plan, weights = hybrid(np.random.default_rng(9), experts=6, top_k=3, expert_bias=False)
    weights["router"][0].data[:] = 0  # every score is 1/2
    native = model(plan, weights, isa=isa)
    at = next(i for i, step in enumerate(plan.steps) if step.op == "route")
    routing = native.values(batch([[1, 2, 3]]))[at]
    np.testing.assert_array_equal(routing[:, :3], [[0, 1, 2]] * 3)
    np.testing.assert_allclose(routing[:, 3:], 0.5, rtol=1e-6)  # 1.5 / 3


def test_cached_values_are_rounded_half_to_even(isa: str) -> None:
    """One position attends to itself alone, so its output is its value as the cache keeps it: every kind of fp16."""
    bits = np.arange(0, 0x7C00, 37, dtype=np.uint16)  # zero, denormal and normal numbers
    below, above = bits.view(np.float16).astype(np.float32), (bits + 1).view(np.float16).astype(np.float32)
    middle = (below + np.where(np.isfinite(above), above, 65536)) / 2  # a tie; the last one overflows
    x = np.concatenate([[65504, 65519, 65520, 1e10, 1e-8, 2.98e-8], below, middle, np.nextafter(middle, 0)])
    x = np.resize(np.concatenate([x, -x]).astype(np.float32), (200, 64))
    plan, weights = Plan(), {"embed": (float_tensor("F32", np.concatenate([x, x, x], axis=1)),)}
    weights |= tensors({"n": float_tensor("F32", np.ones((1, 64))), "head": float_tensor("F32", np.zeros((200, 64)))})
    y = plan.add("attend", plan.add("embed", weights=["embed"]), weights=["n", "n"], slot=0, heads=1, kv_heads=1,
                 head_dim=64, eps=1.0, theta=1e4)  # fmt: skip
    plan.add("linear", plan.add("select", y), weights=["head"])
    work = batch([[i] for i in range(200)], blocks=[[i] for i in range(200)], rows=[])
    found = model(plan, weights, isa=isa, kv="fp16", blocks=200).values(work)[1]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, x.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("kv", ["fp16", "int8"])
@pytest.mark.parametrize("head_dim", [24, 64])
def test_keys_and_values_are_rounded_once(isa: str, kv: str, head_dim: int) -> None:
    rng = np.random.default_rng(10)
    plan, weights = hybrid(rng, head_dim=head_dim, heads=6, kv_heads=1)
    tokens = rng.integers(0, 67, 90)
    found = model(plan, weights, isa=isa, kv=kv).logits(batch([tokens], blocks=[range(2)]))
    expected = Reference(plan, weights, kv=kv).logits(tokens)
    exact = Reference(plan, weights, kv="fp32").logits(tokens)
    # A number that lies between two levels may fall to either side: far less often than it is rounded at all.
    assert np.abs(found - expected).mean() <= 0.2 * np.abs(expected - exact).mean()


def test_an_int8_cache_keeps_what_is_not_a_number(isa: str) -> None:
    """NaN in gives NaN out, infinities do not crash, zeros stay zeros."""
    plan, weights = hybrid(np.random.default_rng(11), head_dim=16)
    table = weights["embed"][0].data.view(np.float32).reshape(67, -1)
    table[1], table[2], table[3, 0] = np.nan, 0, np.inf
    native = model(plan, weights, isa=isa, kv="int8")
    found = native.logits(batch([[4, 2], [4, 1, 5], [4, 3]]))[:, 4:]  # the table is the head, too
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3:5]).all()
