"""Which models are loaded, over models that only say when they are used and closed, and a clock that stands still."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace.engine.residents import Candidate, Clock, Residents
from headrace.engine.turns import Turns
from headrace.errors import Busy, ModelClosed, ModelNotFound, RequestInvalid

HANG_S = 30  # after which a test fails that would wait for ever
REAPER = "headrace-residents"
SIZES = {"a": 4, "b": 4, "c": 3, "d": 2, "e": 1, "all": 10, "huge": 11, "broken": 4}
BUDGET = 10


class StillClock(Clock):
    """Goes on only when it is told to. Counts how often each thread has begun to wait."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits = Counter[str]()
        self.begun = threading.Condition()
        self.changed = threading.Condition()

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return 1e9 + self.seconds

    def wait(self, changed: threading.Condition, timeout_s: float | None) -> None:
        assert timeout_s is None or timeout_s > 0
        with self.begun:
            self.changed = changed
            self.waits[threading.current_thread().name] += 1
            self.begun.notify_all()
        changed.wait()

    def until_waits(self, name: str, more_than: int = 0) -> None:
        with self.begun:
            assert self.begun.wait_for(lambda: self.waits[name] > more_than, HANG_S), f"{name} never waits"

    def advance(self, seconds: float, thread: str = REAPER) -> None:
        """Returns when the thread has seen it, and waits again."""
        self.until_waits(thread)
        with self.changed:
            before = self.waits[thread]
            self.seconds += seconds
            self.changed.notify_all()
        self.until_waits(thread, before)


class World:
    """All models there are, and what is loaded of them: more than the budget never is."""

    def __init__(self, **options: Any) -> None:
        self.lock = threading.Lock()
        self.begun = threading.Condition(self.lock)
        self.loaded = Counter[str]()  # names, from the beginning of loading to the end of closing
        self.loads: list[str] = []
        self.models: list[Fake] = []
        self.held: list[Held] = []
        self.gate = threading.Event()  # loading ends when it is set
        self.gate.set()
        self.errors: dict[str, Exception] = {"broken": MemoryError("no room for it")}
        self.clock = StillClock()
        self.most = options.get("max_models") or 99
        self.residents = Residents(self.find, BUDGET, clock=self.clock, **options)

    def find(self, name: str) -> Candidate[Fake]:
        if name not in SIZES:
            raise ModelNotFound(f"there is no model {name!r}")
        return Candidate(SIZES[name], lambda turns: self.load(name, turns))

    def load(self, name: str, turns: Turns) -> Fake:
        assert turns is self.residents.turns
        with self.lock:
            self.loaded[name] += 1
            self.loads.append(name)
            self.check()
            self.begun.notify_all()
        assert self.gate.wait(HANG_S)
        time.sleep(0)
        if name in self.errors:
            with self.lock:
                self.loaded[name] -= 1
            raise self.errors[name]
        model = Fake(self, name)
        with self.lock:
            self.models.append(model)
        return model

    def check(self) -> None:
        assert max(self.loaded.values()) <= 1, "loaded twice"
        assert sum(SIZES[name] for name in self.loaded.elements()) <= BUDGET
        assert self.loaded.total() <= self.most

    def states(self) -> dict[str, str]:
        return {resident.name: resident.state for resident in self.residents.list()}

    def last(self, name: str) -> Fake:
        return next(model for model in reversed(self.models) if model.name == name)


class Fake:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.users = 0
        self.closed = 0
        self.fails_to_close = False
        self.on_close: Callable[[], object] = lambda: None

    @contextmanager
    def used(self) -> Iterator[None]:
        with self.world.lock:
            assert not self.closed
            self.users += 1
        yield
        with self.world.lock:
            assert not self.closed
            self.users -= 1

    def close(self) -> None:
        with self.world.lock:
            assert not self.users, "closed while it is in use"
            self.closed += 1
        self.on_close()
        time.sleep(0)
        with self.world.lock:
            self.world.loaded[self.name] -= 1
        if self.fails_to_close:
            raise OSError("stuck")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.gate.set()
    for held in world.held:  # those that a failed test has left
        held.ending.set()
    close(world)


def close(world: World) -> None:
    closer = threading.Thread(target=world.residents.close, daemon=True)
    closer.start()
    closer.join(HANG_S)
    assert not closer.is_alive(), "it waits for ever"
    assert_all_closed(world)


def assert_all_closed(world: World) -> None:
    assert [model.closed for model in world.models] == [1] * len(world.models)
    assert not world.loaded.total()
    assert not world.residents.list()


def touch(world: World, *names: str, **options: Any) -> None:
    for name in names:
        with world.residents.lease(name, **options):
            pass


def until_loading(world: World, name: str) -> None:
    with world.begun:
        assert world.begun.wait_for(lambda: world.loaded[name], HANG_S)


class Held:
    """A request in a thread of its own: `future` is done when it has its model, or an error; it ends with `end`."""

    def __init__(self, world: World, name: str, thread: str = "asker", **options: Any) -> None:
        self.future: Future[Fake] = Future()
        self.ending = threading.Event()
        world.held.append(self)
        self.thread = threading.Thread(target=self._run, args=(world, name), kwargs=options, name=thread, daemon=True)
        self.thread.start()

    def _run(self, world: World, name: str, **options: Any) -> None:
        try:
            with world.residents.lease(name, **options) as model, model.used():
                self.future.set_result(model)
                assert self.ending.wait(HANG_S)
        except BaseException as error:
            self.future.set_exception(error)

    def model(self) -> Fake:
        return self.future.result(HANG_S)

    def end(self) -> None:
        self.ending.set()
        self.thread.join(HANG_S)
        assert not self.thread.is_alive()


def test_loaded_once_and_kept(world: World) -> None:
    with world.residents.lease("a") as first, world.residents.lease("a") as second:
        assert first is second
        assert [resident.in_flight for resident in world.residents.list()] == [2]
    touch(world, "a", "b", "a")
    assert world.loads == ["a", "b"]
    assert world.states() == {"a": "loaded", "b": "loaded"}
    assert [resident.name for resident in world.residents.list()] == ["a", "b"], "the last used first"


def test_what_is_loaded_can_be_looked_at_without_using_it(world: World) -> None:
    assert world.residents.held("a") is None
    world.gate.clear()
    first = Held(world, "a", "first")
    until_loading(world, "a")
    assert world.residents.held("a") is None
    world.gate.set()
    model = first.model()
    assert world.residents.held("a") is model
    assert [one.in_flight for one in world.residents.list()] == [1]
    world.residents.unload("a")
    assert world.residents.held("a") is model, "it still answers"
    held_while_closing = list[object]()
    model.on_close = lambda: held_while_closing.append(world.residents.held("a"))
    first.end()
    assert held_while_closing == [None]
    assert world.loads == ["a"]


def test_the_idle_one_that_was_used_least_recently_makes_room(world: World) -> None:
    touch(world, "a", "b", "a", "c")
    assert world.states() == {"c": "loaded", "a": "loaded"}
    with world.residents.lease("a"):  # its use begins now, and ends when it is given back
        touch(world, "c", "d")
    touch(world, "b")
    assert world.states() == {"b": "loaded", "a": "loaded", "d": "loaded"}
    touch(world, "all")
    assert world.states() == {"all": "loaded"}


def test_what_is_in_use_stays(world: World) -> None:
    with world.residents.lease("a") as a, a.used():
        touch(world, "b", "c")
        assert world.states() == {"a": "loaded", "c": "loaded"}


def test_max_models() -> None:
    world = World(max_models=2)
    touch(world, "c", "d", "e")
    assert world.states() == {"d": "loaded", "e": "loaded"}
    with world.residents.lease("d"), world.residents.lease("e"), pytest.raises(Busy):
        touch(world, "c", timeout_s=0)
    close(world)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"max_models": 0}, "max_models is 0"), ({"keep_alive_s": math.nan}, "keep_alive_s is nan")],
)
def test_wrong_options_say_what_was_expected(given: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        Residents(lambda _: Candidate(1, lambda _: Any), BUDGET, **given)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("keep_alive_s", [math.nan, "5m", True])
def test_a_wrong_keep_alive_is_refused_before_anything_is_loaded(world: World, keep_alive_s: Any) -> None:
    with pytest.raises(RequestInvalid, match=r"keep_alive_s is .* but should be a number of seconds"):
        touch(world, "a", keep_alive_s=keep_alive_s)
    assert not world.loads


# --- keep alive


def test_five_minutes_by_default(world: World) -> None:
    touch(world, "a")
    (resident,) = world.residents.list()
    assert (resident.keep_alive_s, resident.expires_at) == (300, 1e9 + 300)
    world.clock.advance(299)
    assert world.states() == {"a": "loaded"}
    world.clock.advance(1)
    assert world.states() == {}


def test_it_counts_from_the_end_of_the_last_request(world: World) -> None:
    with world.residents.lease("a"):
        world.clock.advance(1000)
        assert world.residents.list()[0].expires_at is None
    world.clock.advance(200)
    touch(world, "a")
    world.clock.advance(299)
    assert world.states() == {"a": "loaded"}
    world.clock.advance(2)
    assert world.states() == {}


def test_the_last_request_says_how_long(world: World) -> None:
    with world.residents.lease("a", keep_alive_s=0):
        touch(world, "a", keep_alive_s=10)
    world.clock.advance(9)
    assert world.states() == {"a": "loaded"}
    touch(world, "a", keep_alive_s=20)
    world.clock.advance(19)
    assert world.states() == {"a": "loaded"}
    touch(world, "a")
    world.clock.advance(299)
    assert world.states() == {"a": "loaded"}


def test_zero_unloads_as_soon_as_it_is_idle(world: World) -> None:
    with world.residents.lease("a", keep_alive_s=0), world.residents.lease("a", keep_alive_s=0):
        assert world.states() == {"a": "loaded"}
    assert world.states() == {}


@pytest.mark.parametrize("keep_alive_s", [-1, -0.5, math.inf])
def test_negative_is_for_ever_but_makes_room(world: World, keep_alive_s: float) -> None:
    touch(world, "a", keep_alive_s=keep_alive_s)
    world.clock.advance(1e9)
    assert [(resident.name, resident.expires_at) for resident in world.residents.list()] == [("a", None)]
    touch(world, "all")
    assert world.states() == {"all": "loaded"}


def test_each_at_its_own_time(world: World) -> None:
    touch(world, "c", keep_alive_s=30)
    touch(world, "d", keep_alive_s=10)
    touch(world, "e", keep_alive_s=20)
    for left in ({"c", "e"}, {"c"}, set()):
        world.clock.advance(10)
        assert world.states().keys() == left


# --- loading


def test_two_requests_load_once(world: World) -> None:
    world.gate.clear()
    first = Held(world, "a", "first")
    until_loading(world, "a")
    second = Held(world, "a", "second")
    world.clock.until_waits("second")
    assert world.states() == {"a": "loading"}
    world.gate.set()
    assert first.model() is second.model()
    assert world.loads == ["a"]
    first.end()
    assert world.states() == {"a": "loaded"}
    second.end()


def test_a_failing_load_tells_all_who_wait_and_leaves_nothing_behind(world: World) -> None:
    world.gate.clear()
    first = Held(world, "broken", "first")
    until_loading(world, "broken")
    second = Held(world, "broken", "second")
    world.clock.until_waits("second")
    world.gate.set()
    for held in (first, second):
        with pytest.raises(MemoryError, match="no room for it"):
            held.model()
    assert world.loads == ["broken"]
    assert world.states() == {}
    touch(world, "all")  # its room is free again
    del world.errors["broken"]
    touch(world, "broken")


def test_a_name_that_is_not_found_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(ModelNotFound):
        touch(world, "nothing")
    assert world.states() == {}


def test_larger_than_the_budget_says_both_figures(world: World) -> None:
    touch(world, "a")
    world.residents.budget_bytes = int(2.5e6)
    SIZES["vast"] = int(5e9)
    try:
        with pytest.raises(RequestInvalid, match=r"vast needs 5.0 GB of memory, but all models .* take 2.50 MB: take"):
            touch(world, "vast")
    finally:
        del SIZES["vast"]
    assert world.states() == {"a": "loaded"}, "nothing was unloaded for it"


def test_one_that_gives_up_does_not_fail_the_others(world: World) -> None:
    """The first waits for room with less patience than the second, which is left to load it."""
    holder = Held(world, "all")
    holder.model()
    first = Held(world, "a", "first", timeout_s=10)
    world.clock.until_waits("first")
    second = Held(world, "a", "second")
    world.clock.until_waits("second")
    world.clock.advance(10, "second")
    with pytest.raises(Busy, match="a needs room, and all models that are loaded are in use: try again later"):
        first.model()
    holder.end()
    assert second.model().name == "a"
    second.end()


def test_one_that_does_not_wait_for_the_loading_leaves_it_to_the_others(world: World) -> None:
    world.gate.clear()
    first = Held(world, "a", "first", keep_alive_s=0)
    until_loading(world, "a")
    with pytest.raises(Busy, match="a is still being loaded"):
        touch(world, "a", timeout_s=0, keep_alive_s=0)
    world.gate.set()
    first.model()
    assert [resident.in_flight for resident in world.residents.list()] == [1]
    first.end()
    assert world.states() == {}


# --- waiting for room


def test_one_that_needs_room_waits_until_one_is_idle(world: World) -> None:
    a, b = Held(world, "a"), Held(world, "b")
    a.model()
    b.model()
    c = Held(world, "c", "c")
    world.clock.until_waits("c")
    assert world.states()["c"] == "waiting"
    b.end()  # not the one that was used least recently: but it is idle
    assert c.model().name == "c"
    assert world.states() == {"c": "loaded", "a": "loaded"}
    c.end()
    a.end()


def test_but_not_longer_than_it_says(world: World) -> None:
    with world.residents.lease("a") as a, world.residents.lease("b"):
        late = Held(world, "all", "late", timeout_s=5)
        world.clock.until_waits("late")
        world.clock.advance(4, "late")
        assert not late.future.done()
        world.clock.advance(1)
        with pytest.raises(Busy, match="all needs room"):
            late.model()
        with world.residents.lease("a", timeout_s=0) as again:  # and nobody need make room for it any more
            assert again is a
    assert world.states() == {"a": "loaded", "b": "loaded"}


def test_room_is_given_in_order_of_arrival_and_not_taken_away_by_new_requests(world: World) -> None:
    """Requests for `a` never end before the next one comes: `all` gets its turn nevertheless."""
    a = Held(world, "a", "a")
    a.model()
    large = Held(world, "all", "large")
    world.clock.until_waits("large")
    small = Held(world, "e", "small")  # would fit beside `a`
    world.clock.until_waits("small")
    again = Held(world, "a", "again")
    world.clock.until_waits("again")
    a.end()
    assert large.model().name == "all"
    assert not small.future.done()
    assert not again.future.done()
    large.end()
    assert small.model().name == "e"
    assert again.model().name == "a"
    assert world.loads == ["a", "all", "e", "a"]
    small.end()
    again.end()


def test_busy_sentences(world: World) -> None:
    a = Held(world, "a")
    a.model()
    large = Held(world, "all", "large")
    world.clock.until_waits("large")
    for name, sentence in (("a", "a had to make room for another model"), ("e", "others wait for room before e")):
        with pytest.raises(Busy, match=sentence):
            touch(world, name, timeout_s=0)
    a.end()
    large.model()
    large.end()


# --- unloading


def test_unload_now_or_when_it_is_idle(world: World) -> None:
    assert not world.residents.unload("a")
    touch(world, "a", keep_alive_s=-1)
    assert world.residents.unload("a")
    assert world.states() == {}
    with world.residents.lease("a"):
        assert world.residents.unload("a")
        assert world.states() == {"a": "loaded"}
    assert world.states() == {}
    with world.residents.lease("a"):
        world.residents.unload("a")
        touch(world, "a")  # wants it again
    assert world.states() == {"a": "loaded"}


def test_unload_while_it_is_being_loaded(world: World) -> None:
    world.gate.clear()
    held = Held(world, "a")
    until_loading(world, "a")
    assert world.residents.unload("a")
    world.gate.set()
    held.model()
    held.end()
    assert world.states() == {}


def test_a_model_that_does_not_close_well_is_gone_all_the_same(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.residents.lease("a") as a, world.residents.lease("c") as c:
        a.fails_to_close = c.fails_to_close = True
    world.residents.unload("a")
    assert "a did not close as it should" in caplog.text
    world.clock.advance(300)  # the thread outlives it
    assert world.states() == {}
    touch(world, "a", keep_alive_s=1)
    world.clock.advance(1)
    assert world.states() == {}


def test_close_waits_for_what_runs_and_takes_nothing_more(world: World) -> None:
    a = Held(world, "a")
    a.model()
    touch(world, "c")
    waiting = Held(world, "all", "waiting")
    world.clock.until_waits("waiting")
    closer = threading.Thread(target=world.residents.close, name="closer", daemon=True)
    closer.start()
    with pytest.raises(ModelClosed, match="the models are being closed"):
        waiting.model()
    world.clock.until_waits("closer")
    with pytest.raises(ModelClosed):
        touch(world, "a")
    with pytest.raises(ModelClosed):
        touch(world, "d")
    a.end()
    closer.join(HANG_S)
    assert not closer.is_alive()
    assert_all_closed(world)
    world.residents.close()


def test_close_waits_no_longer_than_it_says(world: World) -> None:
    """What still answers is closed then; what is still being loaded, as soon as it is."""
    with world.residents.lease("c") as c:
        world.gate.clear()
        late = Held(world, "a", "late")
        until_loading(world, "a")
        closer = threading.Thread(target=lambda: world.residents.close(timeout_s=5), name="closer", daemon=True)
        closer.start()
        world.clock.until_waits("closer")
        assert not c.closed
        with world.clock.changed:
            world.clock.seconds += 5
            world.clock.changed.notify_all()
        closer.join(HANG_S)
        assert c.closed == 1
        assert not late.future.done()
    world.gate.set()
    with pytest.raises(ModelClosed):
        late.model()
    assert_all_closed(world)


def test_the_end_of_a_with_block_closes() -> None:
    world = World()
    with world.residents:
        touch(world, "a", "b")
    assert_all_closed(world)


# --- anything at all


class AnyOrder(RuleBasedStateMachine):
    """One thread, any order of requests: what is loaded is what a few lines of plain code say."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(max_models=3)
        self.leases: list[tuple[str, ExitStack]] = []
        self.order: list[str] = []  # loaded, the least recently used first
        self.keep: dict[str, float] = {}
        self.until: dict[str, float] = {}  # when an idle one's time is over

    def busy(self, name: str) -> bool:
        return any(name == other for other, _ in self.leases)

    def fits(self, name: str) -> bool:
        return len(self.order) < 3 and SIZES[name] + sum(SIZES[other] for other in self.order) <= BUDGET

    def gone(self, name: str) -> None:
        self.order.remove(name)
        self.until.pop(name, None)

    @rule(name=st.sampled_from(sorted(SIZES)), keep=st.sampled_from([None, 0, 2, 50, -1]))
    def ask(self, name: str, keep: float | None) -> None:
        stack = ExitStack()
        expected: type[Exception] | None = None
        if name not in self.order:
            if SIZES[name] > BUDGET:
                expected = RequestInvalid
            else:
                for other in [other for other in self.order if not self.busy(other)]:
                    if not self.fits(name):
                        self.gone(other)
                expected = Busy if not self.fits(name) else MemoryError if name == "broken" else None
        if expected:
            with pytest.raises(expected):
                stack.enter_context(self.world.residents.lease(name, keep_alive_s=keep, timeout_s=0))
            return
        model = stack.enter_context(self.world.residents.lease(name, keep_alive_s=keep, timeout_s=0))
        stack.enter_context(model.used())
        self.leases.append((name, stack))
        self.use(name)
        self.keep[name] = 300 if keep is None else keep
        self.until.pop(name, None)

    def use(self, name: str) -> None:
        self.order = [other for other in self.order if other != name] + [name]

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name, stack = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        stack.close()
        self.use(name)
        if not self.busy(name):
            if self.keep[name] == 0:
                self.gone(name)
            elif self.keep[name] > 0:
                self.until[name] = self.world.clock.seconds + self.keep[name]

    @rule(seconds=st.sampled_from([1, 10, 100]))
    def later(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        for name, until in list(self.until.items()):
            if until <= self.world.clock.seconds:
                self.gone(name)

    @rule(name=st.sampled_from(sorted(SIZES)))
    def unload(self, name: str) -> None:
        assert self.world.residents.unload(name) == (name in self.order)
        if name in self.order:
            self.keep[name] = 0
            if not self.busy(name):
                self.gone(name)

    @invariant()
    def what_is_loaded_is_what_should_be(self) -> None:
        found = {
            resident.name: (resident.state, resident.in_flight, resident.size_bytes, resident.expires_at)
            for resident in self.world.residents.list()
        }
        assert found == {
            name: (
                "loaded",
                sum(name == other for other, _ in self.leases),
                SIZES[name],
                1e9 + self.until[name] if name in self.until else None,
            )
            for name in self.order
        }
        assert list(found) == self.order[::-1]
        assert sorted(self.world.loaded.elements()) == sorted(self.order)

    def teardown(self) -> None:
        for _, stack in self.leases:
            stack.close()
        close(self.world)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.fixture(scope="module")
def hasty_threads() -> Iterator[None]:
    """They are switched after microseconds, so that they meet in all places."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


Ask = tuple[str, float | None, float | None]
ASK = st.tuples(st.sampled_from(sorted(SIZES)), st.sampled_from([None, 0, 1, -1]), st.sampled_from([None, None, 0]))
ODD = st.sampled_from([("unload", 0, 0), ("advance", 0, 0), ("list", 0, 0)])


@pytest.mark.usefixtures("hasty_threads")
@settings(max_examples=40)
@given(st.lists(st.lists(ASK | ASK | ODD, min_size=5, max_size=20), min_size=4, max_size=8), st.sampled_from([None, 2]))
def test_many_threads(plans: list[list[Ask]], max_models: int | None) -> None:
    """Never more than the budget, never closed while in use, everything closed once: checked by World and Fake."""
    world = World(max_models=max_models)

    def run(plan: list[Ask]) -> None:
        for name, keep_alive_s, timeout_s in plan:
            act(world, name, keep_alive_s, timeout_s)

    with ThreadPoolExecutor(len(plans)) as pool:
        done = [pool.submit(run, plan) for plan in plans]
        for future in done:
            future.result(HANG_S)
    close(world)


def act(world: World, name: str, keep_alive_s: float | None, timeout_s: float | None) -> None:
    odd: dict[str, Callable[[], object]] = {
        "unload": lambda: world.residents.unload("a"),
        "advance": lambda: world.clock.advance(1),
        "list": world.residents.list,
    }
    if name in odd:
        odd[name]()
        return
    expected = [{"huge": RequestInvalid, "broken": MemoryError}.get(name), Busy if timeout_s == 0 else None]
    with (
        suppress(*(kind for kind in expected if kind)),
        world.residents.lease(name, keep_alive_s=keep_alive_s, timeout_s=timeout_s) as model,
        model.used(),
    ):
        assert model.name == name
        for _ in range(5):
            time.sleep(0)
