"""The sampler beside transformers' logits processors: the same tokens may come, with the same probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import generation

from headrace import _core
from headrace.plan import Plan
from tests.native.builders import batch, float_tensor, int32, model, tensors

DRAWS = 4000


def native(logits: Any, threads: int = 1) -> _core.Model:
    """A model whose logits are these, whatever it is asked."""
    logits = np.asarray(logits, np.float32)
    plan = Plan()
    x = plan.add("select", plan.add("embed", weights=["embed"]))
    plan.add("linear", x, weights=["head", "bias"], bias=True)
    zeros = float_tensor("F32", np.zeros((len(logits), 1)))
    weights = tensors({"embed": zeros, "head": zeros, "bias": float_tensor("F32", logits[None])})
    return model(plan, weights, threads=threads, blocks=512)


def draw(logits: Any, count: int = DRAWS, history: Any = (), bias: Any = (), **fields: Any) -> NDArray[np.int32]:
    """`count` draws with seeds 0, 1, ...; every one is a row of one step."""
    rows = {
        "seed": np.arange(count, dtype=np.uint64),
        "history": int32(list(history) * count),
        "history_starts": int32(np.arange(count + 1) * len(history)),
        "bias_ids": int32([i for i, _ in bias] * count),
        "bias_values": np.array([v for _, v in bias] * count, np.float32),
        "bias_starts": int32(np.arange(count + 1) * len(bias)),
    }
    return native(logits).step(batch([[0] * count], blocks=[range(512)], **(rows | fields)))[0]


def shares(ids: NDArray[np.int32], vocab: int) -> NDArray[np.float64]:
    return np.bincount(ids, minlength=vocab) / len(ids)


def processed(logits: Any, *processors: Any, history: Any = ()) -> NDArray[np.float64]:
    """The probabilities that transformers would draw from."""
    scores = torch.tensor(np.asarray(logits, np.float32))[None]
    for processor in processors:
        scores = processor(torch.tensor([list(history)], dtype=torch.long), scores)
    return torch.softmax(scores.double(), dim=-1)[0].numpy()


def check(found: NDArray[np.int32], expected: NDArray[np.float64]) -> None:
    """Nothing of probability 0 comes, and each share lies within five standard deviations."""
    share = shares(found, len(expected))
    assert (share[expected == 0] == 0).all()
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(found)) + 1 / len(found)).all()


LOGITS = np.random.default_rng(0).standard_normal(300) * 3


@pytest.mark.parametrize(
    ("fields", "processors"),
    [
        ({"temperature": 1.0}, []),
        ({"temperature": 0.3}, [generation.TemperatureLogitsWarper(0.3)]),
        ({"temperature": 1.0, "top_k": 5}, [generation.TopKLogitsWarper(5)]),
        ({"temperature": 1.0, "top_k": 300}, []),
        ({"temperature": 1.0, "top_k": 1000}, []),
        ({"temperature": 1.0, "top_p": 0.8}, [generation.TopPLogitsWarper(0.8)]),
        (
            {"temperature": 3.0, "top_p": 0.95},
            [generation.TemperatureLogitsWarper(3.0), generation.TopPLogitsWarper(0.95)],
        ),
        ({"temperature": 1.0, "min_p": 0.15}, [generation.MinPLogitsWarper(0.15)]),
        (
            {"temperature": 1.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
            [
                generation.TemperatureLogitsWarper(1.7),
                generation.TopKLogitsWarper(40),
                generation.TopPLogitsWarper(0.9),
                generation.MinPLogitsWarper(0.05),
            ],
        ),
    ],
)
def test_the_distribution_is_that_of_transformers(fields: dict[str, Any], processors: list[Any]) -> None:
    check(draw(LOGITS, **fields), processed(LOGITS, *processors))


def test_repetition_penalty_counts_each_id_once() -> None:
    history = [3, 3, 3, 7, 200, 299]
    expected = processed(LOGITS, generation.RepetitionPenaltyLogitsProcessor(1.8), history=history)
    check(draw(LOGITS, temperature=1.0, repeat_penalty=1.8, history=history), expected)


def test_presence_and_frequency_penalties() -> None:
    logits = np.zeros(4)
    found = draw(logits, temperature=1.0, history=[1, 1, 1, 2], presence_penalty=0.5, frequency_penalty=0.25)
    check(found, processed(logits - [0, 0.5 + 0.75, 0.5 + 0.25, 0]))


def test_bias_comes_before_the_penalties() -> None:
    logits = np.array([1.0, -1.0, 0.5])
    found = draw(logits, temperature=1.0, bias=[(0, 1.0), (1, 2.0)], history=[0, 1], repeat_penalty=2.0)
    check(found, processed(np.array([2.0 / 2, 1.0 / 2, 0.5])))


def test_a_bias_of_minus_infinity_bans() -> None:
    assert set(draw([5, 0, 0], temperature=1.0, bias=[(0, -np.inf)])) == {1, 2}


def test_the_mask_allows_and_nothing_else_comes() -> None:
    allowed = [2, 31, 32, 64, 299]
    mask = np.zeros((2, 10), np.uint32)
    mask[0] = 0xFFFFFFFF
    for token in allowed:
        mask[1, token // 32] |= np.uint32(1 << token % 32)
    masked = np.full(300, -np.inf)
    masked[allowed] = LOGITS[allowed]
    found = draw(LOGITS, temperature=2.0, mask=mask, mask_rows=np.full(DRAWS, 1, np.int32))
    check(found, processed(masked / 2))
    assert draw(LOGITS, 1, mask=mask, mask_rows=int32([1]))[0] == allowed[int(np.argmax(LOGITS[allowed]))]
    assert draw(LOGITS, 1, mask=mask, mask_rows=int32([0]))[0] == np.argmax(LOGITS)


def test_temperature_0_is_the_most_likely_and_ties_go_to_the_lower_id() -> None:
    assert draw(LOGITS, 3).tolist() == [int(np.argmax(LOGITS))] * 3
    assert draw([0, 2, 1, 2, 2], 1)[0] == 1
    assert set(draw([0, 2, 1, 2, 2], temperature=1.0, top_k=2)) == {1, 3}
    assert set(draw([0, 2, 1, 2, 2], temperature=1.0, top_p=0.3)) == {1, 3}
    assert set(draw([0, 2, 1, 2, 2], temperature=1.0, top_p=0.0)) == {1}
    assert set(draw([0, 2, 1, 2, 2], temperature=1.0, min_p=1.0)) == {1, 3, 4}
    assert set(draw([0, 2, 1, 2, 2], temperature=1e-40)) == {1}


def test_a_seed_and_a_position_give_one_answer_whatever_runs_beside_them() -> None:
    alone, *_ = native(LOGITS).step(batch([[0] * 40], rows=[39], temperature=1.0, seed=np.array([5], np.uint64)))
    others, *_ = native(LOGITS, threads=2).step(
        batch([[0] * 9, [0] * 40], rows=[3, 8, 48], temperature=1.0, seed=np.array([1, 2, 5], np.uint64))
    )
    assert others[2] == alone[0]


def test_positions_and_seeds_draw_independently() -> None:
    by_position, *_ = native(np.zeros(64)).step(
        batch([[0] * DRAWS], blocks=[range(512)], temperature=1.0, seed=np.full(DRAWS, 7, np.uint64))
    )
    by_seed = draw(np.zeros(64), temperature=1.0)
    for ids in (by_position, by_seed):
        check(ids, np.full(64, 1 / 64))
        pairs = ids[:-1].astype(int) * 64 + ids[1:]  # 4096 cells, each hit about once: Poisson
        assert 0.34 < np.mean(np.bincount(pairs, minlength=4096) == 0) < 0.42  # 1 / e = 0.37


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_broken_logits_do_not_crash(bad: float) -> None:
    logits = np.array([bad, 1.0, bad, 2.0])
    for fields in ({}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 3, "top_p": 0.9, "min_p": 0.1}):
        found = set(draw(logits, 50, **fields).tolist())
        assert found <= ({0, 2} if bad == np.inf else {1, 3})
        assert set(draw([bad] * 4, 50, **fields).tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("fields", [{}, {"temperature": 1.0}])
def test_a_barred_row_is_not_taken_because_the_others_are_broken(fields: dict[str, Any]) -> None:
    assert set(draw([0.0, np.nan, np.nan], 50, bias=[(0, -np.inf)], **fields).tolist()) <= {1, 2}
    assert set(draw([np.nan, np.nan, 0.0], 50, bias=[(2, -np.inf)], **fields).tolist()) <= {0, 1}


def test_a_large_vocabulary_with_a_flat_distribution() -> None:
    """top-p must walk far: the partial sort grows until it has enough."""
    logits = np.random.default_rng(1).standard_normal(20_000) * 0.01
    expected = processed(logits, generation.TopPLogitsWarper(0.5))
    found = draw(logits, 200, temperature=1.0, top_p=0.5)
    assert (expected[found] > 0).all()
    assert len(set(found)) > 190
