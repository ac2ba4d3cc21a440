"""The models that are loaded: found and loaded when they are asked for, within one memory budget, and unloaded when
their time is over, or while they have nothing to do and another needs the room.

A name has at most one entry. It goes through these states, and whoever moves it on does so under the one lock:

    waiting     its size is being found out, or it waits for room
    loading     the room is its own
    loaded      may have requests in flight; idle if it has none
    unloading   its memory still counts, until it is closed
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Generic, Literal, Protocol, TypeVar

from headrace.engine.turns import Turns
from headrace.errors import Busy, ModelClosed, RequestInvalid
from headrace.machine import available_memory_bytes, format_bytes

KEEP_ALIVE_S = 300.0  # as Ollama's
SHARE = 0.9  # of the memory that is available: sizes leave out tokenizers, grammars and the scratch of a step
_LONGEST_WAIT_S = 3600.0  # after which one looks again; the system's waits have a limit
_log = logging.getLogger(__name__)

State = Literal["waiting", "loading", "loaded", "unloading"]


class Closable(Protocol):
    """What is loaded: `close` is called once, when no request uses it, and frees its memory."""

    def close(self) -> None: ...


M = TypeVar("M", bound=Closable)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[M]):
    """A model that was found and may be loaded: `size_bytes` is the memory that it will need at its fullest.

    `load` is given the turns in which the loaded models step. `smaller` says what would fit into so many bytes, where
    this does not.
    """

    size_bytes: int
    load: Callable[[Turns], M]
    smaller: Callable[[int], str] = lambda _: "take a smaller model or window"


@dataclass(frozen=True, slots=True)
class Resident:
    """What `list` says of a model. `size_bytes` is 0 until it is known; `in_flight` counts requests that wait for it to
    be loaded, too.

    `expires_at` is when it will be unloaded if nobody asks for it, in seconds since 1970: None while it is in use, and
    for one that is kept for ever.
    """

    name: str
    state: State
    size_bytes: int
    in_flight: int
    keep_alive_s: float
    expires_at: float | None


class Clock:
    """Time, as tests replace it."""

    def now(self) -> float:
        """Seconds since some moment; never set back."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, changed: threading.Condition, timeout_s: float | None) -> None:
        """Until `changed` is notified, or for about `timeout_s` seconds, or less."""
        changed.wait(None if timeout_s is None else min(timeout_s, _LONGEST_WAIT_S))


@dataclass(eq=False, slots=True)
class _Entry(Generic[M]):
    """`in_flight` counts its requests from the moment they have come, so that they find it loaded and not on its way
    out. `used` orders the entries by their last use."""

    name: str
    state: State = "waiting"
    size_bytes: int = 0
    in_flight: int = 0
    keep_alive_s: float = 0.0
    idle_since: float = 0.0
    used: int = 0
    model: M | None = None
    error: Exception | None = None  # why it could not be loaded

    @property
    def idle(self) -> bool:
        return self.state == "loaded" and not self.in_flight

    @property
    def expires(self) -> float | None:
        """When its time is over, by the clock's `now`; None for never, or not yet known."""
        return self.idle_since + self.keep_alive_s if self.idle and 0 <= self.keep_alive_s < math.inf else None


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long to wait: to the deadline, by the clock's `now`, or until it is given up."""

    deadline: float | None
    given_up: threading.Event | None = None


class Residents(Generic[M]):
    """Models by name. Safe to use from several threads; `close` it, or use it in a `with` block, to unload them all.

    `find` looks a name up without loading anything. All that is loaded, or on its way in or out, takes no more than
    `budget_bytes` together (default: nine tenths of the memory that is available now, within the limits of the process)
    and is no more than `max_models` (default: any number). `keep_alive_s` is for requests that do not say their own.

    Room is given in order of arrival. Where idle models do not make enough, some that are in use take no new requests
    until they have made it; so whoever holds a lease and asks for another may wait for itself.
    """

    def __init__(
        self,
        find: Callable[[str], Candidate[M]],
        budget_bytes: int | None = None,
        *,
        max_models: int | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
        clock: Clock | None = None,
    ) -> None:
        self.budget_bytes = default_budget() if budget_bytes is None else budget_bytes
        self.max_models = sys.maxsize if max_models is None else max_models
        if self.max_models < 1:
            raise RequestInvalid(f"max_models is {max_models!r} but should be a number from 1")
        self.keep_alive_s = _seconds(keep_alive_s)
        self.turns = Turns()
        self._find = find
        self._clock = clock or Clock()
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry[M]] = {}
        self._queue: deque[_Entry[M]] = deque()  # who waits for room, in order of arrival
        self._wanted: list[_Entry[M]] = []  # in use, but their room goes to the first of the queue: no new requests
        self._uses = count()
        self._closing = False
        self._abandoned = False  # `close` did not wait for the end
        self._reaper = threading.Thread(target=self._reap, name="headrace-residents", daemon=True)
        self._reaper.start()

    @contextmanager
    def lease(
        self,
        name: str,
        *,
        keep_alive_s: float | None = None,
        timeout_s: float | None = None,
        given_up: threading.Event | None = None,
    ) -> Iterator[M]:
        """The model, loaded if it is not, for one request: it stays loaded as long as the `with` block lasts.

        It is kept for `keep_alive_s` seconds after the last request; each request sets that anew. 0 unloads it as soon
        as it is idle, a negative number never: but then too it makes room for others while it is idle. `timeout_s` is
        how long to wait for room, or for another request that is loading it (default: as long as it takes); the loading
        itself is not interrupted. `give_up` with the same `given_up` ends the wait, too. Raises Busy when it is over,
        ModelClosed after `close`, and, to all requests that wait for this model, RequestInvalid if it is larger than
        the budget and whatever `find` and loading raise.
        """
        keep_alive_s = self.keep_alive_s if keep_alive_s is None else _seconds(keep_alive_s)
        entry, model = self._acquire(name, keep_alive_s, _Patience(self._deadline(timeout_s), given_up))
        try:
            yield model
        finally:
            self._release(entry)

    def give_up(self, given_up: threading.Event) -> None:
        """Ends the wait of a lease that was asked for with this event: it raises Busy."""
        given_up.set()
        with self._changed:
            self._changed.notify_all()

    def list(self) -> Sequence[Resident]:
        """What is loaded, being loaded or unloaded, the last used first."""
        with self._changed:
            behind = self._clock.wall() - self._clock.now()
            entries = sorted(self._entries.values(), key=lambda entry: -entry.used)
            return [
                Resident(e.name, e.state, e.size_bytes, e.in_flight, e.keep_alive_s, _plus(e.expires, behind))
                for e in entries
            ]

    def held(self, name: str) -> M | None:
        """The model, if it is loaded now: to look at, since without a lease it may be closed at any moment."""
        with self._changed:
            entry = self._entries.get(name)
            return entry.model if entry and entry.state == "loaded" else None

    def unload(self, name: str) -> bool:
        """Unloads a model if it is idle, else as soon as its requests have ended, unless another comes before.

        False: it is not loaded, nor being loaded.
        """
        with self._changed:
            entry = self._entries.get(name)
            if entry is None or entry.state == "unloading":
                return False
            entry.keep_alive_s = 0.0
            leaving = self._begin_unloading([entry] if entry.idle else [])
        self._unload(leaving)
        return True

    def close(self, timeout_s: float | None = None) -> None:
        """Takes no more requests, waits for those in flight, and unloads everything. Closing twice is fine.

        After `timeout_s` seconds (default: it waits as long as it takes) models are closed although they still answer.
        """
        deadline = self._deadline(timeout_s)
        while True:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
                over = deadline is not None and self._clock.now() >= deadline
                loaded = (e for e in self._entries.values() if e.state == "loaded" and (over or e.idle))
                leaving = self._begin_unloading(loaded)
                if not leaving and (over or not self._entries):
                    self._abandoned = True
                    break
                if not leaving:
                    self._clock.wait(self._changed, None if deadline is None else deadline - self._clock.now())
            self._unload(leaving)
        self._reaper.join()

    def __enter__(self) -> Residents[M]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- requests

    def _acquire(self, name: str, keep_alive_s: float, patience: _Patience) -> tuple[_Entry[M], M]:
        with self._changed:
            while True:
                entry = self._entries.get(name)
                if entry is None:
                    self._check_open()
                    entry = self._entries[name] = _Entry(name)
                    self._arrive(entry, keep_alive_s)
                    break
                if entry.state == "unloading" or entry in self._wanted:
                    self._wait(patience, f"{name} had to make room for another model")
                    continue
                self._check_open()
                self._arrive(entry, keep_alive_s)
                if (model := self._await_loading(entry, patience)) is not None:
                    return entry, model
        return entry, self._load(entry, patience)

    def _arrive(self, entry: _Entry[M], keep_alive_s: float) -> None:
        entry.in_flight += 1
        entry.keep_alive_s = keep_alive_s
        entry.used = next(self._uses)

    def _await_loading(self, entry: _Entry[M], patience: _Patience) -> M | None:
        """The model once somebody has loaded it; None if that one gave up, and it is for others to try."""
        while entry.model is None:
            if entry.error:
                raise entry.error
            if self._entries.get(entry.name) is not entry:
                return None
            try:
                self._wait(patience, f"{entry.name} is still being loaded")
            except BaseException:
                entry.in_flight -= 1
                raise
        return entry.model

    def _release(self, entry: _Entry[M]) -> None:
        with self._changed:
            entry.in_flight -= 1
            entry.used = next(self._uses)
            entry.idle_since = self._clock.now()
            leaving = self._begin_unloading([entry] if entry.idle and entry.keep_alive_s == 0 else [])
            self._changed.notify_all()
        self._unload(leaving)

    # --- loading

    def _load(self, entry: _Entry[M], patience: _Patience) -> M:
        """Loads for this request and for all that come meanwhile."""
        try:
            candidate = self._find(entry.name)
            self._check_fits(entry, candidate)
            self._make_room(entry, candidate.size_bytes, patience)
            model = candidate.load(self.turns)
        except BaseException as error:
            with self._changed:
                # Its own impatience, or Ctrl-C, is no concern of the others: one of them tries again.
                entry.error = error if isinstance(error, Exception) and not isinstance(error, Busy) else None
                self._forget(entry)
            raise
        with self._changed:
            entry.model, entry.state = model, "loaded"
            late = self._begin_unloading([entry] if self._abandoned else [])
            self._changed.notify_all()
        self._unload(late)
        if late:
            self._check_open()
        return model

    def _check_fits(self, entry: _Entry[M], candidate: Candidate[M]) -> None:
        if candidate.size_bytes > self.budget_bytes:
            needs, most = format_bytes(candidate.size_bytes), format_bytes(self.budget_bytes)
            raise RequestInvalid(
                f"{entry.name} needs {needs} of memory, but all models together may take {most}: "
                f"{candidate.smaller(self.budget_bytes)}; or allow them more"
            )

    def _make_room(self, entry: _Entry[M], size_bytes: int, patience: _Patience) -> None:
        """Waits in line, then unloads what is idle and waits for what is not, until the entry fits."""
        with self._changed:
            entry.size_bytes = size_bytes
            self._queue.append(entry)
        try:
            while not self._take_room(entry, patience):
                pass
        finally:
            with self._changed:
                if self._queue[0] is entry:
                    self._wanted = []
                self._queue.remove(entry)
                self._changed.notify_all()

    def _take_room(self, entry: _Entry[M], patience: _Patience) -> bool:
        """One step towards it. True: the room is the entry's."""
        with self._changed:
            if self._queue[0] is not entry:
                self._wait(patience, f"others wait for room before {entry.name}")
                return False
            victims = self._victims(entry)
            self._wanted = [victim for victim in victims if not victim.idle]
            if self._fits(entry, self._occupants()):
                entry.state = "loading"
                return True
            leaving = self._begin_unloading(victim for victim in victims if victim.idle)
            if not leaving:
                self._wait(patience, f"{entry.name} needs room, and all models that are loaded are in use")
        self._unload(leaving)
        return False

    def _occupants(self) -> Sequence[_Entry[M]]:
        return [entry for entry in self._entries.values() if entry.state != "waiting"]

    def _fits(self, entry: _Entry[M], beside: Sequence[_Entry[M]]) -> bool:
        taken = sum(other.size_bytes for other in beside)
        return taken + entry.size_bytes <= self.budget_bytes and len(beside) < self.max_models

    def _victims(self, entry: _Entry[M]) -> Sequence[_Entry[M]]:
        """Those whose room it needs beside what is free and becoming free: the idle ones first, the last used last."""
        stay = [other for other in self._occupants() if other.state != "unloading"]
        victims = list[_Entry[M]]()
        for other in sorted(stay, key=lambda other: (not other.idle, other.used)):
            if self._fits(entry, stay):
                break
            if other.state == "loaded":
                stay.remove(other)
                victims.append(other)
        return victims

    # --- unloading

    def _begin_unloading(self, entries: Iterable[_Entry[M]]) -> Sequence[_Entry[M]]:
        """Under the lock: from here on they are nobody else's. `_unload` must follow, without the lock."""
        leaving = list(entries)
        for entry in leaving:
            entry.state = "unloading"
        return leaving

    def _unload(self, leaving: Sequence[_Entry[M]]) -> None:
        for entry in leaving:
            try:
                if entry.model is not None:
                    entry.model.close()
            except Exception:
                _log.exception("%s did not close as it should", entry.name)
            finally:
                with self._changed:
                    self._forget(entry)

    def _forget(self, entry: _Entry[M]) -> None:
        del self._entries[entry.name]
        self._changed.notify_all()

    def _reap(self) -> None:
        """Unloads what nobody has asked for in time."""
        while True:
            with self._changed:
                if self._closing:
                    return
                expiries = [(entry.expires, entry) for entry in self._entries.values() if entry.expires is not None]
                now = self._clock.now()
                leaving = self._begin_unloading(entry for expires, entry in expiries if expires <= now)
                if not leaving:
                    self._clock.wait(self._changed, min((expires - now for expires, _ in expiries), default=None))
            self._unload(leaving)

    # --- time

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock.now() + timeout_s

    def _wait(self, patience: _Patience, why: str) -> None:
        """For something to change. Raises Busy when patience is over, and ModelClosed when waiting has no use."""
        self._check_open()
        if patience.given_up and patience.given_up.is_set():
            raise Busy(f"{why}, and nobody waits for it any more")
        left = None if patience.deadline is None else patience.deadline - self._clock.now()
        if left is not None and left <= 0:
            raise Busy(f"{why}: try again later")
        self._clock.wait(self._changed, left)

    def _check_open(self) -> None:
        if self._closing:
            raise ModelClosed("the models are being closed: start again to ask more of them")


def _seconds(keep_alive_s: float) -> float:
    number = isinstance(keep_alive_s, int | float) and not isinstance(keep_alive_s, bool)
    if not number or math.isnan(keep_alive_s):
        raise RequestInvalid(f"keep_alive_s is {keep_alive_s!r} but should be a number of seconds")
    return keep_alive_s


def default_budget() -> int:
    """Bytes that all models together may take, where nothing is said."""
    available = available_memory_bytes()
    return sys.maxsize if available is None else int(available * SHARE)


def _plus(moment: float | None, seconds: float) -> float | None:
    return None if moment is None else moment + seconds
