"""What a step gives beside the sampled ids: log-probabilities, routing, and the hidden state before the head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace import _core
from headrace.engine.batch import Stepped
from headrace.plan import Plan, fuse
from tests.native.builders import batch, float_tensor, hybrid, int32, model, tensors

VOCAB = 67
TOKENS = np.random.default_rng(0).integers(0, VOCAB, 12)
BEYOND = -np.inf


def build(isa: str = "", threads: int = 1, **options: Any) -> _core.Model:
    plan, weights = hybrid(np.random.default_rng(1))
    return model(fuse(plan), weights, isa=isa, threads=threads, **options)


def fixed(logits: Any, threads: int = 1) -> _core.Model:
    """A model whose logits are these, whatever it is asked."""
    logits = np.asarray(logits, np.float32)
    plan = Plan()
    x = plan.add("select", plan.add("embed", weights=["embed"]))
    plan.add("linear", x, weights=["head", "bias"], bias=True)
    zeros = float_tensor("F32", np.zeros((len(logits), 1)))
    weights = tensors({"embed": zeros, "head": zeros, "bias": float_tensor("F32", logits[None])})
    return model(plan, weights, threads=threads)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    x = logits.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def assert_close(found: Any, expected: Any) -> None:
    """The core rounds once, from fp64 to fp32: half a unit of 2^-23, and what fp64 leaves of a logarithm near zero."""
    np.testing.assert_allclose(found, expected, rtol=2.0**-23, atol=1e-12)


def ranked(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Best first, ties to the lower id."""
    return np.argsort(-logits, axis=-1, kind="stable")


def test_targets_get_their_log_probability(isa: str) -> None:
    native = build(isa)
    targets = np.roll(TOKENS, -1).astype(np.int32)
    expected = log_softmax(native.logits(batch([TOKENS])))
    ids, logprobs, top_ids, top_logprobs, experts = native.step(batch([TOKENS], targets=targets, top_logprobs=0))
    np.testing.assert_array_equal(ids, targets)
    assert_close(logprobs, expected[np.arange(12), targets])
    assert top_ids is not None
    assert top_logprobs is not None
    assert top_ids.shape == top_logprobs.shape == (12, 0)
    assert experts is None
    alone = Stepped(*native.step(batch([TOKENS], targets=targets)))
    np.testing.assert_array_equal(alone.ids, targets)
    assert alone[1:] == (None, None, None, None)


def test_each_row_gets_what_it_wants(isa: str) -> None:
    """Rows that want nothing, their own token only, few tokens, more than there are; some sampled, some targets."""
    native = build(isa, threads=2)
    wanted = int32([3, -1, 0, 64, 1, 64, -1, 2, 5, 0, 7, 1])
    targets = np.where(np.arange(12) % 3 == 0, TOKENS, -1).astype(np.int32)
    logits = native.logits(batch([TOKENS]))
    expected, best = log_softmax(logits), ranked(logits)
    stepped = Stepped(*native.step(batch([TOKENS], targets=targets, top_logprobs=wanted)))
    np.testing.assert_array_equal(stepped.ids, np.where(targets < 0, best[:, 0], targets))
    assert stepped.logprobs is not None
    assert stepped.top_ids is not None
    assert stepped.top_logprobs is not None
    assert stepped.top_ids.shape == stepped.top_logprobs.shape == (12, 64)
    for row, n in enumerate(wanted.tolist()):
        own = expected[row, stepped.ids[row]] if n >= 0 else np.nan
        n = max(n, 0)
        assert_close(stepped.logprobs[row], own)
        assert stepped.top_ids[row].tolist() == [*best[row, :n], *[-1] * (64 - n)]
        assert_close(stepped.top_logprobs[row, :n], expected[row, best[row, :n]])
        assert (stepped.top_logprobs[row, n:] == BEYOND).all()


def test_sampling_changes_nothing_of_them() -> None:
    """Bias, penalties, mask and temperature choose the token; its log-probability is the model's."""
    logits = np.random.default_rng(2).standard_normal(300) * 3
    allowed = np.zeros((1, 10), np.uint32)
    allowed[0, 3] = 1 << 5  # token 101 alone
    fields: dict[str, Any] = {
        "temperature": 0.7,
        "repeat_penalty": 1.5,
        "history": int32([101, 5]),
        "history_starts": int32([0, 2]),
        "bias_ids": int32([101, 7]),
        "bias_values": np.array([-3, np.inf * -1], np.float32),
        "bias_starts": int32([0, 2]),
        "mask": allowed,
        "mask_rows": int32([0]),
        "top_logprobs": 5,
    }
    stepped = Stepped(*fixed(logits).step(batch([[0]], **fields)))
    expected = log_softmax(logits.astype(np.float32))
    assert stepped.ids.tolist() == [101]
    assert_close(stepped.logprobs, expected[[101]])
    assert_close(stepped.top_logprobs, expected[None, ranked(logits)[:5]])


def test_ties_go_to_the_lower_id() -> None:
    logits = [0, 2, 1, 2, 2, 1, -np.inf, 2]
    stepped = Stepped(*fixed(logits).step(batch([[0]], top_logprobs=8)))
    assert stepped.top_ids is not None
    assert stepped.top_ids.tolist() == [[1, 3, 4, 7, 2, 5, 0, 6]]
    equal = Stepped(*fixed(np.ones(9)).step(batch([[0]], top_logprobs=4)))
    assert equal.top_ids is not None
    assert equal.top_ids.tolist() == [[0, 1, 2, 3]]
    rising = Stepped(*fixed(np.arange(300.0)).step(batch([[0]], top_logprobs=64)))
    assert rising.top_ids is not None
    assert rising.top_ids.tolist() == [[*range(299, 235, -1)]]


def test_fewer_tokens_than_wanted() -> None:
    stepped = Stepped(*fixed([1, np.nan, 3]).step(batch([[0]], top_logprobs=4)))
    assert stepped.top_ids is not None
    assert stepped.top_ids.tolist() == [[2, 0, -1, -1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_have_no_log_probability(bad: float) -> None:
    for logits in ([bad, 1, 2], [bad] * 3, [-np.inf] * 3):
        stepped = Stepped(*fixed(logits).step(batch([[0]], targets=1, top_logprobs=2)))
        assert np.isnan(stepped.logprobs).all()


def test_large_and_distant_logits_do_not_overflow() -> None:
    for logits in ([3e38, -3e38, 0], [-3e38, -3e38, -3e38], [1e4, 1e4 + 1, -np.inf], [80, 0, -80]):
        stepped = Stepped(*fixed(logits).step(batch([[0]], targets=1, top_logprobs=3)))
        with np.errstate(over="ignore"):
            expected = log_softmax(np.array(logits, np.float32)).astype(np.float32)
        assert_close(stepped.logprobs, expected[[1]])
        assert_close(stepped.top_logprobs, expected[None, ranked(np.array(logits))])


def test_their_bits_do_not_depend_on_neighbours_threads_or_what_else_is_wanted(isa: str) -> None:
    alone = Stepped(*build(isa).step(batch([TOKENS], top_logprobs=6)))
    native = build(isa, threads=2)
    others = [[1, 2, 3], TOKENS, [4, 5]]
    wanted = int32([-1, 64, 0, *[6] * 12, 3, 9])
    beside = Stepped(*native.step(batch(others, top_logprobs=wanted, experts=True)))
    assert beside.top_logprobs is not None
    assert beside.top_ids is not None
    assert beside.logprobs is not None
    np.testing.assert_array_equal(beside.logprobs[3:15], alone.logprobs)
    np.testing.assert_array_equal(beside.top_ids[3:15, :6], alone.top_ids)
    np.testing.assert_array_equal(beside.top_logprobs[3:15, :6], alone.top_logprobs)


def two_mixtures(top_k: int = 2) -> tuple[Plan, Any]:
    """A second router, which reads what the first mixture gave."""
    rng = np.random.default_rng(5)
    plan, weights = hybrid(rng)
    *_, norm, _, head = plan.steps
    plan.steps = plan.steps[:-3]
    x = len(plan.steps) - 1
    weights["second"] = (float_tensor("F32", rng.standard_normal((5, 64))),)
    route = plan.add("route", x, weights=["second"], top_k=top_k, normalise=False, scale=1.0, bias=False)
    x = plan.add("add", x, plan.add("experts", x, route, weights=["w1", "w3", "w2"]))
    plan.add("linear", plan.add("select", plan.add("norm", x, weights=norm.weights, eps=1e-5)), weights=head.weights)
    return plan, weights


@pytest.mark.parametrize("threads", [1, 2])
def test_experts_are_the_values_of_the_routers(isa: str, threads: int) -> None:
    """For all tokens, wanted rows or not, and the ids are those of a step without them."""
    plan, weights = two_mixtures()
    native = model(plan, weights, isa=isa, threads=threads)
    work = batch([TOKENS, TOKENS[:7]], rows=[4, 11, 18])
    routers = [i for i, step in enumerate(plan.steps) if step.op == "route"]
    values = native.values(work)
    expected = np.stack([values[i] for i in routers], axis=1)
    ids, *_, none = native.step(work)
    assert none is None
    work.experts = True
    with_experts, *_, experts = native.step(work)
    assert experts is not None
    assert experts.shape == (19, 2, 4)
    np.testing.assert_array_equal(experts, expected)
    np.testing.assert_array_equal(with_experts, ids)
    assert set(experts[:, :, :2].ravel()) <= set(range(5))
    no_rows = native.step(batch([TOKENS], rows=[], experts=True))[-1]
    np.testing.assert_array_equal(no_rows, expected[:12])


def test_experts_of_a_plan_without_routers() -> None:
    experts = fixed(np.zeros(4)).step(batch([[0, 1, 2]], experts=True))[-1]
    assert experts is not None
    assert experts.shape == (3, 0, 0)


def test_experts_of_routers_that_differ() -> None:
    plan, weights = two_mixtures(top_k=3)
    native = model(plan, weights)
    native.step(batch([[1, 2]]))
    with pytest.raises(ValueError, match=r"step \d+ does not route every token to as many experts.*batch.experts"):
        native.step(batch([[1, 2]], experts=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_hidden_is_what_the_head_reads(isa: str, threads: int, kind: str) -> None:
    plan, weights = hybrid(np.random.default_rng(1), kind)
    plan = fuse(plan)
    native = model(plan, weights, isa=isa, threads=threads)
    work = batch([TOKENS, TOKENS[:7]], rows=[4, 11, 18])
    expected = native.values(work)[plan.steps[-1].inputs[0]]
    found = native.hidden(work)
    assert found.shape == (3, 64)
    np.testing.assert_array_equal(found, expected)
    assert native.hidden(batch([TOKENS], rows=[])).shape == (0, 64)
    split = batch([TOKENS[5:]], [5], rows=[6])
    native.hidden(batch([TOKENS[:5]], rows=[]))  # and the cache is filled as by any step
    np.testing.assert_array_equal(native.hidden(split), expected[1:2])


def test_a_plan_that_does_not_end_in_a_head_has_no_hidden_state() -> None:
    plan = Plan()
    x = plan.add("linear", plan.add("embed", weights=["embed"]), weights=["embed"])
    plan.add("select", x)
    native = model(plan, tensors({"embed": float_tensor("F32", np.ones((4, 4)))}))
    with pytest.raises(ValueError, match="the plan does not end in a linear step"):
        native.hidden(batch([[0]]))
