"""The engine over a core that counts: the next token of a sequence is its last token plus one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.batch import Batch
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.pace import Pace
from headrace.engine.parameters import Parameters
from headrace.engine.request import Finished, Sequence
from headrace.engine.scheduler import Scheduler
from headrace.engine.status import Counts
from headrace.errors import ModelClosed, RequestInvalid
from headrace.events import Text
from tests.engine.cores import BLOCK, BlockCore


class Letters:
    """Stands for a TextStream: token t is the letter of its last digit."""

    stopped = False

    def push(self, token: int) -> str:
        return "abcdefghij"[token % 10]

    def finish(self) -> str:
        return "."


@pytest.fixture
def core() -> BlockCore:
    return BlockCore()


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(BlockCache(32, BLOCK), max_sequences=3, pace=Pace(8))


@pytest.fixture
def engine(core: BlockCore, scheduler: Scheduler) -> Iterator[Engine]:
    with Engine(core, scheduler) as engine:
        yield engine


def sequence(prompt: list[int], num_ctx: int = 40, *, end: int = -1, text: Any = None, **given: Any) -> Sequence:
    return Sequence.start(prompt, Parameters().override(**given), num_ctx, end_ids={end}, text=text)


def run(engine: Engine, asked: Sequence) -> tuple[list[int], Finished]:
    *_, last = engine.submit(asked).stream()
    assert isinstance(last, Finished)
    return asked.ids[asked.prompt_tokens : asked.length].tolist(), last


def test_counts_to_num_predict(engine: Engine) -> None:
    ids, finished = run(engine, sequence([1, 2, 3], num_predict=5))
    assert ids == [4, 5, 6, 7, 8]
    assert finished.reason == "length"
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (3, 5)


def test_ends_at_an_end_token(engine: Engine) -> None:
    ids, finished = run(engine, sequence([1], end=6))
    assert ids == [2, 3, 4, 5, 6]
    assert finished.reason == "stop"


def test_ends_at_the_window(engine: Engine, scheduler: Scheduler) -> None:
    ids, finished = run(engine, sequence([1, 2], num_ctx=10))
    assert len(ids) == 8
    assert finished.reason == "length"
    assert scheduler.cache.available == 32


def test_long_prompts_come_in_chunks_and_others_decode_beside_them(engine: Engine, core: BlockCore) -> None:
    core.gate.clear()
    short, long = sequence([1], num_predict=8), sequence(list(range(30)), num_predict=2)
    engine.submit(short)
    engine.submit(long)
    core.gate.set()
    assert run_out(short) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert run_out(long) == [30, 31]
    together = [batch for batch in core.batches if len(batch.positions) == 2]
    assert len(together) >= 3
    assert all(len(batch.tokens) <= 8 + 1 for batch in core.batches)


def test_it_says_how_it_stands_while_a_step_runs(engine: Engine, core: BlockCore) -> None:
    """Nobody waits for the end of the step: it may be a long one."""
    assert engine.counts() == Counts(0, 0, blocks=32, used=0, kept=0, evicted=0, preempted=0)
    core.gate.clear()
    first = engine.submit(sequence(list(range(30)), num_predict=2))
    until(lambda: engine.counts().running == 1)  # and its first chunk at the gate
    later = [engine.submit(sequence([number], num_predict=1)) for number in range(5)]
    assert engine.counts() == Counts(1, 5, blocks=32, used=2, kept=0, evicted=0, preempted=0)
    core.gate.set()
    for one in (first, *later):
        run_out(one)
    until(lambda: engine.counts().running == 0)
    full = (30 + 1) // BLOCK  # the last token is never stepped
    assert engine.counts() == Counts(0, 0, blocks=32, used=full, kept=full, evicted=0, preempted=0)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not come"


def run_out(asked: Sequence) -> list[int]:
    list(asked.stream())
    return asked.ids[asked.prompt_tokens : asked.length].tolist()


def test_every_token_is_stepped_once(engine: Engine, core: BlockCore) -> None:
    """The last one is never stepped: nothing follows it."""
    run(engine, sequence(list(range(20)), num_predict=5))
    stepped = [position for batch in core.batches for position in range(batch.positions[0], end_of(batch))]
    assert stepped == list(range(20 + 5 - 1))


def end_of(batch: Batch) -> int:
    return int(batch.positions[0] + batch.starts[1])


def test_text_comes_as_it_grows_and_what_was_held_at_the_end(engine: Engine) -> None:
    outputs = list(engine.submit(sequence([1], num_predict=3, text=Letters())).stream())
    assert [output.text for output in outputs if isinstance(output, Text)] == ["c", "d", "e", "."]


def test_leaving_early_cancels_and_frees(engine: Engine, scheduler: Scheduler) -> None:
    asked = sequence([1], num_ctx=40, text=Letters())
    for _ in engine.submit(asked).stream():
        break
    run(engine, sequence([5], num_predict=1))  # a later one goes through
    assert asked.cancelled
    while not scheduler.idle:
        pass
    assert scheduler.cache.available == 32


def test_logits_of_every_token(engine: Engine, core: BlockCore) -> None:
    tokens = list(range(20))
    asked = Sequence.start(tokens, Parameters(), 20, wants="logits")
    rows = [output for output in engine.submit(asked).stream() if isinstance(output, np.ndarray)]
    assert np.concatenate(rows).argmax(axis=1).tolist() == tokens
    assert [len(batch.tokens) for batch in core.batches] == [8, 8, 4]


def test_a_failing_step_reaches_its_asker_and_the_engine_goes_on(engine: Engine, core: BlockCore) -> None:
    def fail(_: Batch) -> Any:
        raise MemoryError("no room")

    core.step = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError, match="no room"):
        list(engine.submit(sequence([1])).stream())
    del core.step  # type: ignore[method-assign]
    assert run(engine, sequence([1], num_predict=1))[0] == [2]


def test_a_failing_schedule_reaches_its_asker_and_the_engine_goes_on(engine: Engine, scheduler: Scheduler) -> None:
    """The thread outlives whatever goes wrong between two steps: without it everybody would wait for ever."""
    usable = scheduler.cache

    class Broken(BlockCache):
        def blocks_for(self, _: int) -> int:
            scheduler.cache = usable
            raise MemoryError("no room")

    scheduler.cache = Broken(32, BLOCK)
    asked = engine.submit(sequence([1]))
    with pytest.raises(MemoryError, match="no room"):
        raise asked.outputs.get(timeout=60)  # type: ignore[misc]
    assert run(engine, sequence([1], num_predict=1))[0] == [2]


def test_closing_ends_what_runs(core: BlockCore, scheduler: Scheduler) -> None:
    engine = Engine(core, scheduler)
    core.gate.clear()
    asked = engine.submit(sequence([1]))
    closer = threading.Thread(target=engine.close)
    closer.start()
    core.gate.set()
    with pytest.raises(ModelClosed):
        list(asked.stream())
    closer.join()
    with pytest.raises(ModelClosed, match="load it again"):
        engine.submit(sequence([1]))


def test_closing_lets_go_of_the_core_whoever_still_holds_the_engine(scheduler: Scheduler) -> None:
    """Its weights and its cache are most of the memory."""
    core = BlockCore()
    engine, gone = Engine(core, scheduler), weakref.ref(core)
    run(engine, sequence([1], num_predict=2))
    del core
    assert gone() is not None
    engine.close()
    assert gone() is None


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20), st.booleans()), min_size=1, max_size=12))
def test_any_mix_of_requests_gives_each_its_own_answer(asked: list[tuple[int, int, bool]]) -> None:
    """More than fit at once, of any length, some cancelled: the rest are exact, and no block is lost."""
    scheduler = Scheduler(BlockCache(16, BLOCK), max_sequences=3, pace=Pace(8))
    with Engine(BlockCore(), scheduler) as engine:
        sequences = [
            (sequence(list(range(prompt)), num_ctx=60, num_predict=predict), cancel)
            for prompt, predict, cancel in asked
        ]
        for one, cancel in sequences:
            engine.submit(one)
            one.cancelled = cancel
        for one, cancel in sequences:
            ids = run_out(one)
            assert ids == list(range(one.prompt_tokens, one.prompt_tokens + len(ids)))
            assert cancel or len(ids) == one.parameters.num_predict
    assert scheduler.cache.available == 16


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1 but should be a number from 0 to 100"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 1.5}, "top_k is 1.5 but should be a whole number"),
        ({"top_k": True}, "top_k is True"),
        ({"stop": ""}, "stop should be a text"),
        ({"stop": 5}, "stop should be a text"),
        ({"temprature": 1}, "unknown parameter 'temprature'"),
        ({"logit_bias": {"x": 1}}, "logit_bias should map token ids to numbers"),
        ({"logit_bias": {1: float("inf")}}, "finite"),
    ],
)
def test_wrong_parameters_say_what_was_expected(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        Parameters().override(**given)


def test_none_means_not_given() -> None:
    assert Parameters(top_k=7).override(top_k=None, min_p=0.1) == Parameters(top_k=7, min_p=0.1)


def test_penalties_look_at_the_last_tokens_asked_for() -> None:
    from headrace.engine.batch import Part

    def history(**given: Any) -> list[int]:
        return Batch.of([Part(sequence([1, 2, 3, 4], **given), 4, range(3, 4))]).history.tolist()

    assert history() == []
    assert history(repeat_penalty=1.1) == [1, 2, 3, 4]
    assert history(presence_penalty=0.5, repeat_last_n=2) == [3, 4]
    assert history(frequency_penalty=0.5, repeat_last_n=0) == []
