"""Whose step is next, where engines have the same threads: one at a time, and each gets the same share of the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

LEAD_S = 0.02  # how far ahead an engine may get of one that is only preparing its next step
PATIENCE_S = 0.005  # how long the threads may lie idle for that one


class Turns:
    """Shared by the engines of one process: each takes a `turn`, and steps in it.

    A step keeps all threads of the machine busy: two at once would only be in each other's way. Since a step takes
    anything from a tenth of a millisecond to seconds (a long prompt, a large model), it is time that is shared out
    equally, not steps: the next one belongs to the engine that has had the least. `clock` tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._active: list[Turn] = []  # those that step, wait to, or prepare to
        self._stepping = False
        self._since = 0.0  # when the last step began or ended
        self._left_at_s = 0.0  # the least that anybody had had when the last one left

    def turn(self) -> Turn:
        """The place of one more engine."""
        return Turn(self, threading.Condition(self._lock))

    def _take(self, turn: Turn) -> None:
        with self._lock:
            if turn not in self._active:
                turn.used_s = max(turn.used_s, self._least_used())  # nobody saves up time by having nothing to do
                self._active.append(turn)
            turn.waiting = True
            while self._next() is not turn:
                turn.called.wait(PATIENCE_S)
            turn.waiting = False
            self._stepping, self._since = True, self._clock()

    def _give_back(self, turn: Turn) -> None:
        with self._lock:
            now = self._clock()
            turn.used_s += now - self._since
            self._stepping, self._since = False, now
            self._call()

    def _leave(self, turn: Turn) -> None:
        with self._lock:
            if turn in self._active:
                self._left_at_s = self._least_used()
                self._active.remove(turn)
                self._call()

    def _next(self) -> Turn | None:
        """Who may step now: the one of those waiting that has had the least, unless one far behind is just coming."""
        if self._stepping:
            return None
        first = min((turn for turn in self._active if turn.waiting), key=lambda turn: turn.used_s, default=None)
        if first is None or first.used_s - self._least_used() <= LEAD_S:
            return first
        return first if self._clock() - self._since >= PATIENCE_S else None

    def _least_used(self) -> float:
        return min((turn.used_s for turn in self._active), default=self._left_at_s)

    def _call(self) -> None:
        if turn := self._next():
            turn.called.notify()


class Turn:
    """An engine's place among others: `with turn:` around each step; `rest` when there is nothing more to do."""

    def __init__(self, turns: Turns, called: threading.Condition) -> None:
        self._turns = turns
        self.called = called
        self.waiting = False
        self.used_s = 0.0  # the time it has had, or what others had while it did not want any

    def __enter__(self) -> None:
        self._turns._take(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns._give_back(self)

    def rest(self) -> None:
        """Nobody need wait for this engine, until its next step."""
        self._turns._leave(self)
