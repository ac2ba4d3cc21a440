"""Turns over a clock that only steps move: who steps next, and that never two do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.batch import Batch, Stepped
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.pace import Pace
from headrace.engine.parameters import Parameters
from headrace.engine.request import Sequence
from headrace.engine.scheduler import Scheduler
from headrace.engine.turns import LEAD_S, PATIENCE_S, Turn, Turns

HANG_S = 30  # after which a test fails that would wait for ever


class Machine:
    """Counts who has its threads, and for how long."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = Turns(clock=lambda: self.now)
        self.stepping = 0
        self.steps: list[Turn] = []

    def step(self, turn: Turn, seconds: float) -> None:
        with turn:
            self.stepping += 1
            assert self.stepping == 1, "two steps at once"
            self.steps.append(turn)
            self.now += seconds
            self.stepping -= 1


@pytest.fixture
def machine() -> Machine:
    return Machine()


def together(*bodies: Callable[[], None]) -> None:
    errors = list[BaseException]()

    def run(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
        assert not thread.is_alive(), "it waits for ever"
    if errors:
        raise errors[0]


def all_begin(machine: Machine, turns: list[Turn]) -> None:
    """Each has something to do from here on."""
    for turn in turns:
        machine.step(turn, 0)


def test_nobody_steps_beside_another(machine: Machine) -> None:
    a, b = machine.turns.turn(), machine.turns.turn()
    beside = threading.Thread(target=lambda: machine.step(b, 1), daemon=True)
    with a:
        beside.start()
        beside.join(PATIENCE_S * 3)
        assert not machine.steps
    beside.join(HANG_S)
    assert machine.steps == [b]


def test_equal_steps_alternate(machine: Machine) -> None:
    a, b = turns = [machine.turns.turn() for _ in range(2)]
    all_begin(machine, turns)

    def work(turn: Turn) -> None:
        for _ in range(50):
            machine.step(turn, 1)
        turn.rest()

    together(lambda: work(a), lambda: work(b))
    steps = machine.steps[2:]
    assert all({first, second} == {a, b} for first, second in zip(steps[::2], steps[1::2], strict=True))


def test_nobody_saves_up_time_by_having_nothing_to_do(machine: Machine) -> None:
    a, b = machine.turns.turn(), machine.turns.turn()
    machine.step(b, 1)
    b.rest()
    for _ in range(100):
        machine.step(a, 1)
    machine.step(b, 1)
    assert b.used_s == a.used_s + 1
    a.rest()
    b.rest()
    late = machine.turns.turn()
    machine.step(late, 1)
    assert late.used_s == b.used_s + 1, "nor by being new"


def test_one_that_is_behind_is_waited_for_while_it_prepares_its_step(machine: Machine) -> None:
    """It needs a moment between two of its short steps: without the wait it would have one for each long step."""
    short, long = turns = [machine.turns.turn() for _ in range(2)]
    all_begin(machine, turns)
    machine.step(long, 10)
    stepped = threading.Event()

    def step() -> None:
        machine.step(long, 10)
        stepped.set()

    waiting = threading.Thread(target=step, daemon=True)
    waiting.start()
    for _ in range(9):
        machine.step(short, 1)
    assert machine.steps.count(long) == 2
    machine.step(short, 1)
    waiting.join(HANG_S)
    assert stepped.is_set()


def test_but_not_for_long(machine: Machine) -> None:
    short, long = turns = [machine.turns.turn() for _ in range(2)]
    all_begin(machine, turns)
    machine.step(long, 10)
    waiting = threading.Thread(target=lambda: machine.step(long, 10), daemon=True)
    waiting.start()
    waiting.join(PATIENCE_S * 3)
    assert waiting.is_alive()
    machine.now += PATIENCE_S
    waiting.join(HANG_S)
    assert not waiting.is_alive()
    assert machine.steps == [short, long, long, long]


def test_nobody_waits_for_one_that_rests(machine: Machine) -> None:
    short, long = turns = [machine.turns.turn() for _ in range(2)]
    all_begin(machine, turns)
    machine.step(long, 10)
    waiting = threading.Thread(target=lambda: machine.step(long, 10), daemon=True)
    waiting.start()
    short.rest()
    waiting.join(HANG_S)
    assert not waiting.is_alive()


def test_a_step_that_fails_gives_its_turn_back(machine: Machine) -> None:
    a, b = machine.turns.turn(), machine.turns.turn()
    with pytest.raises(MemoryError), a:
        raise MemoryError
    a.rest()
    together(lambda: machine.step(b, 1))


class Core:
    """Counts up, on a machine that it must have for itself."""

    def __init__(self, machine: Machine, fails: int = -1) -> None:
        self.machine = machine
        self.steps = 0
        self.fails = fails

    def step(self, batch: Batch) -> Any:
        self._step()
        return Stepped(batch.tokens[batch.rows] + 1)

    def hidden(self, batch: Batch) -> Any:
        return self.logits(batch)

    def copy_block(self, source: int, target: int) -> None:
        raise NotImplementedError

    def logits(self, batch: Batch) -> Any:
        self._step()
        return np.zeros((len(batch.rows), 8), np.float32)

    def _step(self) -> None:
        self.machine.stepping += 1
        assert self.machine.stepping == 1, "two steps at once"
        self.steps += 1
        self.machine.now += 1
        for _ in range(200):  # others get a chance to break in
            time.sleep(0)
        self.machine.stepping -= 1
        if self.steps == self.fails:
            raise MemoryError


@pytest.fixture
def engines(machine: Machine) -> Iterator[list[Engine]]:
    engines = [
        Engine(Core(machine, fails), Scheduler(BlockCache(64, 4), max_sequences=3, pace=Pace(8)), machine.turns)
        for fails in (-1, -1, 3)
    ]
    yield engines
    for engine in engines:
        engine.close()


def test_engines_with_the_same_turns_step_one_at_a_time(engines: list[Engine]) -> None:
    """Those that answer, those that score, and one whose steps fail."""
    asked = [Sequence.start([1], Parameters(num_predict=20), 40) for _ in range(3)]
    scored = [Sequence.start(list(range(30)), Parameters(), 30, wants="logits") for _ in range(2)]
    for one, engine in zip(asked, engines, strict=True):
        engine.submit(one)
    for one, engine in zip(scored, engines, strict=False):
        engine.submit(one)
    for one in [*asked[:2], *scored]:
        list(one.stream())
    with pytest.raises(MemoryError):
        list(asked[2].stream())
    for one in asked[:2]:
        assert one.ids[1:21].tolist() == list(range(2, 22))


def test_an_engine_without_work_holds_nobody_up(engines: list[Engine]) -> None:
    """Else the clock, which stands still, would let the other get ahead by LEAD_S and no further."""
    first, second, failing = engines
    for engine in (second, failing, failing):
        one = Sequence.start([1], Parameters(num_predict=5), 40)
        try:
            list(engine.submit(one).stream())
        except MemoryError:
            assert engine is failing
    one = Sequence.start([1], Parameters(num_predict=30), 40)
    first.submit(one)
    while not isinstance(output := one.outputs.get(timeout=HANG_S), BaseException) and not hasattr(output, "reason"):
        pass
    assert one.length == 31


@settings(max_examples=20)
@given(st.lists(st.sampled_from([0.5, 1, 3, 10, 40]), min_size=2, max_size=4))
def test_each_gets_the_same_share_of_the_time(lengths: list[float]) -> None:
    """However long their steps are: nobody is ahead by more than its last step."""
    machine = Machine()
    turns = [machine.turns.turn() for _ in lengths]
    all_begin(machine, turns)

    def work(turn: Turn, seconds: float) -> None:
        while machine.now < 200:
            machine.step(turn, seconds)
            least = min(other.used_s for other in turns)
            assert turn.used_s - least <= 2 * seconds + LEAD_S  # twice: the last in line may have left meanwhile
        turn.rest()

    together(*(lambda t=t, s=s: work(t, s) for t, s in zip(turns, lengths, strict=True)))  # type: ignore[misc]
    used = [turn.used_s for turn in turns]
    assert max(used) - min(used) <= 2 * max(lengths) + LEAD_S
    assert sum(used) == pytest.approx(machine.now)
