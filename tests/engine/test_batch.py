"""From parts to the flat arrays of a step."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from headrace.engine.batch import Batch, Part
from headrace.engine.parameters import Parameters
from headrace.engine.request import Sequence


def sequence(prompt: list[int], computed: int = 0, blocks: tuple[int, ...] = (0,), **given: Any) -> Sequence:
    made = Sequence.start(prompt, Parameters().override(**given), 20)
    made.computed, made.blocks = computed, list(blocks)
    return made


def test_columns_by_sequence_and_by_row() -> None:
    """A sequence that decodes, one that drafts, a chunk without a row, and a prompt whose tokens are scored."""
    drafting = sequence([1, 2, 3, 4, 5], computed=2, blocks=(7, 3))
    scored = sequence([6, 7, 8], blocks=(5,))
    batch = Batch.of(
        [
            Part(sequence([9], blocks=(1,)), 1, range(1), top_logprobs=5),
            Part(drafting, 3, range(3), slot=4, rewind=2),
            Part(sequence([1, 2], blocks=(8,)), 2, range(0)),
            Part(scored, 3, range(1, 3), targets=(8, -1), top_logprobs=0, experts=True),
        ]
    )
    expected = {
        "tokens": [9, 3, 4, 5, 1, 2, 6, 7, 8],
        "starts": [0, 1, 4, 6, 9],
        "positions": [0, 2, 0, 0],
        "blocks": [1, 7, 3, 8, 5],
        "block_starts": [0, 1, 3, 4, 5],
        "slots": [-1, 4, -1, -1],
        "rewinds": [0, 2, 0, 0],
        "rows": [0, 1, 2, 3, 7, 8],
        "targets": [-1, -1, -1, -1, 8, -1],
        "top_logprobs": [5, -1, -1, -1, 0, 0],
    }
    assert {name: getattr(batch, name).tolist() for name in expected} == expected
    assert {getattr(batch, name).dtype for name in expected} == {np.dtype(np.int32)}
    assert batch.experts is True
    assert Batch.of([Part(drafting, 3, range(3))]).experts is False


def test_all_arrays_are_there_and_contiguous_even_of_nothing() -> None:
    kinds = {"mask": np.uint32, "seed": np.uint64}
    floats = {"temperature", "top_p", "min_p", "bias_values"}
    for parts in ([], [Part(sequence([1, 2]), 2, range(0))], [Part(sequence([1, 2], logit_bias={3: 1}), 2, range(2))]):
        batch = Batch.of(parts)
        for column in fields(Batch):
            value = getattr(batch, column.name)
            if column.name == "experts":
                continue
            is_float = column.name in floats or column.name.endswith("_penalty")
            assert value.dtype == kinds.get(column.name, np.float32 if is_float else np.int32), column.name
            assert value.flags.c_contiguous, column.name


def test_the_penalties_of_a_row_look_at_what_stands_before_it() -> None:
    """Drafts that are checked together get what they would get one by one."""
    for last, expected in ((-1, [[1, 2, 3], [1, 2, 3, 4]]), (2, [[2, 3], [3, 4]])):
        part = Part(sequence([1, 2, 3, 4, 5], computed=2, repeat_penalty=1.1, repeat_last_n=last), 3, range(2))
        batch = Batch.of([part])
        assert [part.tolist() for part in np.split(batch.history, batch.history_starts[1:-1])] == expected


def test_the_bias_is_made_once() -> None:
    barred, other = np.array([4, 6], np.int32), np.array([5], np.int32)
    asked = sequence([1], logit_bias={2: 1.5, 6: 100})
    bias = asked.bias(barred)
    assert bias.ids.tolist() == [2, 6, 4, 6]
    assert bias.values.tolist() == [1.5, 100, -np.inf, -np.inf]
    assert asked.bias(barred) is bias
    assert asked.bias(other).ids.tolist() == [2, 6, 5]
