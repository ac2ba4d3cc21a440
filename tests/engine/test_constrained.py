"""Masks and forced tokens in the scheduler, over a core that counts: a sequence's grammar is played by a script."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.engine.batch import Batch, Part, Stepped
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.pace import Pace
from headrace.engine.parameters import Parameters
from headrace.engine.request import Finished, Sequence
from headrace.engine.scheduler import Scheduler
from headrace.errors import RequestInvalid
from headrace.events import Text

WORDS = 2  # of a mask: 64 tokens
BLOCK = 4


class Script:
    """Stands for a Constraint. `forced` maps a token to those that follow it of themselves."""

    def __init__(
        self, forced: dict[int, list[int]] | None = None, begin: tuple[int, ...] = (), fails: int = -1
    ) -> None:
        self.forced = forced or {}
        self.begun = list(begin)
        self.fails = fails
        self.asked = 0

    def begin(self) -> list[int]:
        return self.begun

    def mask(self) -> NDArray[np.uint32] | None:
        self.asked += 1
        if self.asked == self.fails:
            raise RequestInvalid("too complex")
        return np.full(WORDS, self.asked, np.uint32)

    def accept(self, token: int) -> list[int]:
        return self.forced.get(token, [])


class CountingCore:
    """The next token is the last one plus one. Keeps its batches."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def step(self, batch: Batch) -> Any:
        self.batches.append(batch)
        return Stepped(batch.tokens[batch.rows] + 1)

    def logits(self, batch: Batch) -> Any:
        self.batches.append(batch)
        return np.zeros((len(batch.rows), 64), np.float32)


class Words:
    """Stands for a TextStream."""

    def __init__(self, stop: int = -1) -> None:
        self.stop = stop
        self.stopped = False

    def push(self, token: int) -> str:
        self.stopped = token == self.stop
        return f"{token} "

    def finish(self) -> str:
        return ""


@pytest.fixture
def core() -> CountingCore:
    return CountingCore()


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(BlockCache(64, BLOCK), max_sequences=3, pace=Pace(8))


@pytest.fixture
def engine(core: CountingCore, scheduler: Scheduler) -> Iterator[Engine]:
    with Engine(core, scheduler) as engine:
        yield engine


def sequence(prompt: list[int], constraint: Any = None, *, end: int = -1, text: Any = None, **given: Any) -> Sequence:
    return Sequence.start(prompt, Parameters().override(**given), 60, end_ids={end}, text=text, constraint=constraint)


def run(engine: Engine, asked: Sequence) -> tuple[list[int], Finished]:
    *_, last = engine.submit(asked).stream()
    assert isinstance(last, Finished)
    return asked.ids[asked.prompt_tokens : asked.length].tolist(), last


def test_forced_tokens_come_at_once_and_are_counted(engine: Engine, core: CountingCore) -> None:
    ids, finished = run(engine, sequence([1], Script({3: [20, 21, 22]}), num_predict=7))
    assert ids == [2, 3, 20, 21, 22, 23, 24]
    assert (finished.usage.completion_tokens, finished.usage.forced_tokens) == (7, 3)
    assert [len(batch.tokens) for batch in core.batches] == [1, 1, 4, 1]  # 3 is stepped with what follows it
    assert core.batches[2].rows.tolist() == [3]


def test_forced_tokens_at_the_beginning_are_read_with_the_prompt(engine: Engine, core: CountingCore) -> None:
    ids, finished = run(engine, sequence([1, 2], Script(begin=(10, 11)), num_predict=3))
    assert ids == [10, 11, 12]
    assert core.batches[0].tokens.tolist() == [1, 2, 10, 11]
    assert finished.usage.prompt_tokens == 2


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5])
def test_the_limit_counts_forced_tokens(limit: int, engine: Engine, scheduler: Scheduler) -> None:
    ids, finished = run(engine, sequence([1], Script({2: [20, 21, 22]}, begin=(1,)), num_predict=limit))
    assert ids == [1, 2, 20, 21, 22, 23][:limit]
    assert finished.reason == "length"
    assert scheduler.cache.available == scheduler.cache.count


def test_a_forced_end_and_a_forced_stop_end(engine: Engine) -> None:
    ids, finished = run(engine, sequence([1], Script({2: [20, 7, 30]}), end=7))
    assert (ids, finished.reason) == ([2, 20, 7], "stop")
    asked = sequence([1], Script({2: [20, 21, 22]}), text=Words(stop=21))
    pieces = [output.text for output in engine.submit(asked).stream() if isinstance(output, Text)]
    assert pieces == ["2 ", "20 ", "21 "]


def test_masks_are_part_of_the_batch() -> None:
    """One row for each sequence that has one, in the order of the rows."""
    first, second = np.array([5, 6], np.uint32), np.array([7, 8], np.uint32)
    parts = [
        Part(sequence([1, 2]), 2, range(0)),
        Part(sequence([1]), 1, range(1), [first]),
        Part(sequence([1]), 1, range(1)),
        Part(sequence([1]), 1, range(1), [second]),
    ]
    batch = Batch.of(parts)
    assert batch.mask.tolist() == [[5, 6], [7, 8]]
    assert batch.mask_rows.tolist() == [0, -1, 1]
    assert batch.mask.dtype == np.uint32
    free = Batch.of(parts[:1])
    assert free.mask.shape == (0, 0)
    assert free.mask_rows.tolist() == []


def test_a_mask_is_asked_for_once_a_row(engine: Engine) -> None:
    """Not for chunks of a prompt that end in no row."""
    script = Script()
    run(engine, sequence(list(range(20)), script, num_predict=3))
    assert script.asked == 3


def test_a_failing_grammar_ends_its_own_sequence_only(engine: Engine, scheduler: Scheduler) -> None:
    calm = engine.submit(sequence([1], num_predict=30))
    with pytest.raises(RequestInvalid, match="too complex"):
        list(engine.submit(sequence([1], Script(fails=3), num_predict=30)).stream())
    *_, last = calm.stream()
    assert isinstance(last, Finished)
    assert last.usage.completion_tokens == 30
    assert run(engine, sequence([4], num_predict=1))[0] == [5]
    assert scheduler.cache.available == scheduler.cache.count


def test_a_grammar_that_fails_before_its_first_token_fails_alone(engine: Engine, scheduler: Scheduler) -> None:
    class Costly(Script):
        def begin(self) -> list[int]:
            raise RequestInvalid("too complex")

    calm = engine.submit(sequence([1], num_predict=30))
    asked = engine.submit(sequence([1], Costly(), num_predict=30))
    with pytest.raises(RequestInvalid, match="too complex"):
        raise asked.outputs.get(timeout=60)  # type: ignore[misc]
    *_, last = calm.stream()
    assert isinstance(last, Finished)
    assert last.usage.completion_tokens == 30
    assert scheduler.cache.available == scheduler.cache.count


def test_forced_tokens_do_not_wait_for_a_long_prompt(core: CountingCore, scheduler: Scheduler) -> None:
    """They belong to a sequence that decodes: the budget is for prompts."""
    long, forced = sequence(list(range(40))), sequence([1], Script({2: [20, 21]}))
    scheduler.waiting.append(forced)
    scheduler.commit(parts := scheduler.schedule(), core.step(Batch.of(parts)), 1.0)
    scheduler.waiting.append(long)
    scheduler.running.reverse()
    scheduler.schedule()
    scheduler.running.reverse()  # the long prompt is first in line
    assert [(part.sequence is forced, part.count) for part in scheduler.schedule()] == [(False, 8), (True, 3)]


def test_masks_are_computed_while_another_sequence_is_stepped(core: CountingCore, scheduler: Scheduler) -> None:
    """A prompt that is scored goes alone: meanwhile the mask of a sequence that waits for it is made."""
    script, asked = Script(), list[int]()
    scheduler.running.append(sequence([1], script))
    scored = Sequence.start([1, 2, 3], Parameters(), 3, wants="logits")

    def logits(batch: Batch) -> Any:
        for _ in range(1000):
            if script.asked:
                break
            time.sleep(0.01)
        asked.append(script.asked)
        return np.zeros((len(batch.rows), 64), np.float32)

    core.logits = logits  # type: ignore[method-assign]
    scheduler.waiting.append(scored)  # before the engine begins, so that no step comes first
    with Engine(core, scheduler):
        list(scored.stream())
    assert asked == [1]
