"""A bad batch raises ValueError with a sentence, before anything runs; it never crashes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace import _core
from tests.native.builders import BLOCKS, batch, hybrid, int32, model

VOCAB = 67
WORDS = 3  # of a mask row


@pytest.fixture(scope="module")
def native() -> _core.Model:
    plan, weights = hybrid(np.random.default_rng(0))
    return model(plan, weights, threads=2, draft_slots=3, max_rewind=4)


def good(**fields: Any) -> SimpleNamespace:
    work = batch([[1, 2, 3], [4, 5]], rows=[2, 4])
    vars(work).update(fields)
    return work


def test_the_good_batch_is_good(native: _core.Model) -> None:
    assert native.step(good())[0].shape == (2,)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"tokens": int32([1, 2, 3, 4, VOCAB])}, "batch.tokens holds 67: expected 0 to 66"),
    ({"tokens": int32([1, 2, 3, 4, -1])}, "batch.tokens holds -1"),
    ({"tokens": int32([1, 2, 3, 4])}, "batch.starts must run from 0 to 4"),
    ({"tokens": np.array([1, 2, 3, 4, 5])}, "batch.tokens must be a C-contiguous int32 array of 1 dimension"),
    ({"tokens": int32(range(10))[::2]}, "batch.tokens must be a C-contiguous int32 array"),
    ({"tokens": int32(range(5)).reshape(1, 5)}, "batch.tokens must be"),
    ({"tokens": [1, 2, 3, 4, 5]}, "batch.tokens must be"),
    ({"tokens": None}, "batch.tokens must be"),
    ({"starts": int32([0, 3])}, "batch.starts has length 2: expected 3"),
    ({"starts": int32([])}, "batch.starts has length 0: expected 3"),
    ({"starts": int32([0, 0, 5])}, "batch.starts must grow by 1 or more"),
    ({"starts": int32([0, 7, 5])}, "batch.starts must grow"),
    ({"starts": int32([-1, 3, 5])}, "batch.starts must run from 0 to 5"),
    ({"positions": int32([0, -1])}, "batch.positions holds -1: expected 0 or more"),
    ({"positions": int32([0, 2**31 - 1])}, "sequence 1 reaches position 2147483649 but its cache blocks hold 256"),
    ({"positions": int32([0])}, "batch.starts has length 3: expected 2"),
    ({"positions": int32([])}, "batch.starts has length 3: expected 1"),
    ({"positions": int32([255, 0])}, "sequence 0 reaches position 258"),
    ({"blocks": int32([BLOCKS, 1, 2, 3, 4, 5, 6, 7])}, "batch.blocks holds 64: expected 0 to 63"),
    ({"blocks": int32([-1, 1, 2, 3, 4, 5, 6, 7])}, "batch.blocks holds -1"),
    ({"blocks": int32([])}, "batch.block_starts must run from 0 to 0"),
    ({"blocks": int32([0, 1, 2, 3, 0, 5, 6, 7])}, "cache block 0 is written in this step"),
    ({"blocks": int32([0, 1, 2, 3, 4, 0, 6, 7])}, "cache block 0 is written in this step"),
    ({"blocks": int32([0, 0, 2, 3, 4, 5, 6, 7])}, "cache block 0 is written in this step"),
    ({"block_starts": int32([0, 8, 8])}, "batch.block_starts must grow by 1"),
    ({"block_starts": int32([0, 8])}, "batch.block_starts has length 2"),
    ({"slots": int32([0, 3])}, "batch.slots holds 3: expected -1 to 2"),
    ({"slots": int32([-2, 0])}, "batch.slots holds -2"),
    ({"slots": int32([0])}, "batch.slots has length 1: expected 2"),
    ({"slots": int32([2, 2])}, "draft slot 2 must stand once in batch.slots"),
    ({"rewinds": int32([0, 5])}, "batch.rewinds holds 5: expected 0 to 4"),
    ({"rewinds": int32([0, -1])}, "batch.rewinds holds -1"),
    ({"rewinds": int32([0, 0, 0])}, "batch.rewinds has length 3: expected 2"),
    ({"rewinds": int32([0, 1])}, "sequence 1 rewinds 1 tokens, so it must name a draft slot"),
    (
        {"rewinds": int32([0, 1]), "slots": int32([-1, 1])},
        "sequence 1 rewinds 1 tokens to position 0 but the last step of draft slot 1 had 0 tokens and ended at",
    ),
    ({"rows": int32([2, 5])}, "batch.rows holds 5: expected 0 to 4"),
    ({"rows": int32([-1, 2])}, "batch.rows holds -1"),
    ({"rows": int32([2, 2])}, "batch.rows must ascend, but 2 follows 2"),
    ({"rows": int32([1, 2, 3])}, "batch.temperature has length 2: expected 3"),
    ({"temperature": floats(0, -1)}, "batch.temperature holds -1"),
    ({"temperature": floats(0, np.nan)}, "batch.temperature holds nan"),
    ({"temperature": floats(0, np.inf)}, "batch.temperature holds inf"),
    ({"temperature": np.zeros(2)}, "batch.temperature must be a C-contiguous float32 array"),
    ({"top_k": int32([0, -1])}, "batch.top_k holds -1"),
    ({"top_k": int32([0])}, "batch.top_k has length 1: expected 2"),
    ({"top_p": floats(1, 1.5)}, "batch.top_p holds 1.5: expected 0 to 1"),
    ({"min_p": floats(-0.5, 0)}, "batch.min_p holds -0.5: expected 0 to 1"),
    ({"repeat_penalty": floats(0, 1)}, "batch.repeat_penalty holds 0"),
    ({"presence_penalty": floats(np.nan, 1)}, "batch.presence_penalty holds nan"),
    ({"frequency_penalty": floats(np.inf, 1)}, "batch.frequency_penalty holds inf"),
    ({"seed": np.zeros(1, np.uint64)}, "batch.seed has length 1: expected 2"),
    ({"seed": np.zeros(2, np.int64)}, "batch.seed must be a C-contiguous uint64 array"),
    ({"history": int32([1])}, "batch.history_starts must run from 0 to 1"),
    ({"history": int32([VOCAB]), "history_starts": int32([0, 1, 1])}, "batch.history holds 67"),
    ({"history": int32([1]), "history_starts": int32([0, 2, 1])}, "batch.history_starts must grow by 0 or more"),
    (
        {"bias_ids": int32([1]), "bias_values": floats(), "bias_starts": int32([0, 1, 1])},
        "batch.bias_values has length 0",
    ),
    ({"bias_ids": int32([-7]), "bias_values": floats(0), "bias_starts": int32([0, 1, 1])}, "batch.bias_ids holds -7"),
    (
        {"bias_ids": int32([1]), "bias_values": floats(np.nan), "bias_starts": int32([0, 1, 1])},
        "batch.bias_values holds",
    ),
    ({"mask_rows": int32([-1, 0])}, "batch.mask_rows holds 0"),
    ({"mask_rows": int32([-2, -1])}, "batch.mask_rows holds -2"),
    ({"mask": np.ones((1, 2), np.uint32)}, "batch.mask has 2 words a row: expected 3"),
    ({"mask": np.zeros((1, WORDS), np.uint32)}, "row 0 of batch.mask allows no token"),
    ({"mask": np.array([[0, 0, 1 << 3]], np.uint32)}, "row 0 of batch.mask allows no token"),  # bit 67: not a token
    ({"targets": int32([0, VOCAB])}, "batch.targets holds 67: expected -1 to 66"),
    ({"targets": int32([0, -2])}, "batch.targets holds -2"),
    ({"targets": int32([0])}, "batch.targets has length 1: expected 2"),
    ({"top_logprobs": int32([0, 65])}, "batch.top_logprobs holds 65: expected -1 to 64"),
    ({"top_logprobs": int32([0, 2**31 - 1])}, "batch.top_logprobs holds 2147483647"),
    ({"top_logprobs": int32([-2, 0])}, "batch.top_logprobs holds -2"),
    ({"top_logprobs": int32([])}, "batch.top_logprobs has length 0: expected 2"),
    ({"experts": 1}, "batch.experts must be True or False"),
    ({"mask": np.ones(WORDS, np.uint32)}, "batch.mask must be a C-contiguous uint32 array of 2 dimensions"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD)
def test_a_bad_batch_says_what_is_wrong(native: _core.Model, fields: dict[str, Any], sentence: str) -> None:
    for call in (native.step, native.logits, native.hidden, native.values):
        with pytest.raises(ValueError, match=r"^[a-z].*") as error:
            call(good(**fields))
        assert sentence in str(error.value)
    assert native.step(good())[0].shape == (2,)


def test_a_batch_lacks_a_field(native: _core.Model) -> None:
    work = good()
    del work.min_p
    with pytest.raises(AttributeError, match="min_p"):
        native.step(work)


def test_random_corruption_never_crashes(native: _core.Model) -> None:
    """One number of one field replaced by anything: either it runs or it raises ValueError."""
    rng = np.random.default_rng(3)
    numbers = [-(2**31), -65, -2, -1, 0, 1, 2, 3, 5, 63, 64, 66, 67, 1000, 2**31 - 1]
    refused = 0
    for _ in range(1500):
        work = good(history=int32([1, 2]), history_starts=int32([0, 1, 2]), mask=np.full((2, WORDS), 7, np.uint32))
        work.slots, work.experts = int32([2, 0]), bool(rng.integers(2))
        name = rng.choice([n for n in vars(work) if np.size(getattr(work, n)) and n != "experts"])
        field = getattr(work, name).copy()
        value = rng.choice(numbers)
        field.flat[rng.integers(field.size)] = abs(value) if field.dtype.kind == "u" else value
        setattr(work, name, field)
        try:
            native.step(work)
        except ValueError:
            refused += 1
    assert 300 < refused < 1500


def test_a_slot_goes_back_by_tokens_that_it_knows(native: _core.Model) -> None:
    """Five tokens up to position 5, of which a slot keeps four: back by 1 to 4, and to no other position."""
    blocks = [range(4)]

    def back(position: int, rewind: int) -> None:
        native.step(batch([[1, 2, 3, 4, 5]], blocks=blocks, slots=1))
        native.step(batch([[6]], [position], blocks, slots=1, rewinds=rewind))

    for rewind in (1, 2, 3, 4):
        back(5 - rewind, rewind)
    for position, rewind in ((5, 1), (4, 2), (0, 4)):
        with pytest.raises(ValueError, match="the last step of draft slot 1 had 5 tokens and ended at position 5"):
            back(position, rewind)
    native.step(batch([[6]], [5], blocks, slots=1))
    with pytest.raises(ValueError, match="draft slot 1 had 1 tokens and ended at position 6"):
        native.step(batch([[7]], [4], blocks, slots=1, rewinds=2))
    native.step(batch([[7]], [5], blocks, slots=1, rewinds=1))


def test_no_rows_and_no_tokens(native: _core.Model) -> None:
    assert native.step(batch([[1, 2, 3]], rows=[]))[0].shape == (0,)
    assert native.logits(batch([[1, 2, 3]], rows=[])).shape == (0, VOCAB)
    assert native.step(batch([]))[0].shape == (0,)
    assert [value.shape[0] for value in native.values(batch([[1, 2, 3]], rows=[]))][-2:] == [0, 0]


def test_calls_from_several_threads_take_turns(native: _core.Model) -> None:
    work = [batch([list(range(i, i + 20))], blocks=[[2 * i, 2 * i + 1]]) for i in range(8)]
    expected = [native.logits(one) for one in work]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(native.logits, work * 5), expected * 5, strict=True):
            np.testing.assert_array_equal(found, right)
