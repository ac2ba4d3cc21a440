"""Works of the library, which take as long as they take: each in a thread of its own, whose steps come to a coroutine.

Whoever waits for one may leave at any time: then it ends at its next step. What it reports meanwhile is kept by the
latest of each kind, so a client that reads slowly neither holds it up nor fills the memory.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from headrace.errors import Busy
from headrace.library.progress import Progress
from headrace.library.registry.patience import Stopped
from headrace.server.serving import GOING_DOWN

MOST_WORKS: Final = 32  # at a time
MOST_STEPS: Final = 1024  # that are kept for who reads slowly
PAUSE_S: Final = 0.05  # between two tellings
CLOSING_S: Final = 5.0  # that works have to notice that the server ends


@dataclass(eq=False, slots=True)
class Work:
    """A work on its way. Iterate for its steps; raises what it did. `stop` is set when nobody waits for it."""

    loop: asyncio.AbstractEventLoop
    stop: threading.Event = field(default_factory=threading.Event)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _steps: dict[tuple[str, str | None], Progress] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _is_over: bool = False
    _error: Exception | None = None

    def report(self, step: Progress) -> None:
        """From the work's thread. Raises Stopped where nobody waits for it."""
        if self.stop.is_set():
            raise Stopped
        with self._guard:
            is_first = not self._steps
            self._steps.pop((step.status, step.digest), None)  # it is the last now
            self._steps[step.status, step.digest] = step
            if len(self._steps) > MOST_STEPS:
                del self._steps[next(iter(self._steps))]
        if is_first:
            self._wake(self._told)

    def end(self, error: Exception | None = None) -> None:
        """From any thread; the first end counts."""
        with self._guard:
            if self._is_over:
                return
            self._is_over, self._error = True, error
        self._wake(self._told, self._over)

    async def __aiter__(self) -> AsyncIterator[Progress]:
        while True:
            await self._told.wait()
            self._told.clear()
            steps, is_over = self._taken()
            for step in steps:
                yield step
            if is_over:
                break
            await self._pause()
        if self._error:
            raise self._error

    def _taken(self) -> tuple[Sequence[Progress], bool]:
        with self._guard:
            steps = list(self._steps.values())
            self._steps.clear()
            return steps, self._is_over

    async def _pause(self) -> None:
        """The end need not wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await self._over.wait()

    def _wake(self, *events: asyncio.Event) -> None:
        for event in events:
            with suppress(RuntimeError):  # the loop has ended: nobody waits there
                self.loop.call_soon_threadsafe(event.set)


class Works:
    """All works of a server. For its event loop alone, but `close`."""

    def __init__(self) -> None:
        self._running: dict[Work, threading.Thread] = {}
        self._is_going_down = False

    @contextmanager
    def doing(self, do: Callable[[Work], object]) -> Iterator[Work]:
        """A work that begins; leaving the block ends it, if it has not ended. Raises Busy."""
        if self._is_going_down:
            raise Busy(GOING_DOWN)
        for ended in [work for work, thread in self._running.items() if not thread.is_alive()]:
            del self._running[ended]
        if len(self._running) >= MOST_WORKS:
            raise Busy(f"{MOST_WORKS} models are being brought in or sent, which is the most: try again later")
        work = Work(asyncio.get_running_loop())
        thread = threading.Thread(target=_do, args=(do, work), name="headrace-work", daemon=True)
        self._running[work] = thread
        thread.start()
        try:
            yield work
        finally:
            work.stop.set()

    def go_down(self) -> None:
        """Takes no more works, and ends those that run with an error that says so."""
        self._is_going_down = True
        for work in self._running:
            work.end(Busy(GOING_DOWN))
            work.stop.set()

    def close(self) -> bool:
        """Blocks until all have ended. False: some did not notice in time."""
        self.go_down()
        until = time.monotonic() + CLOSING_S
        for thread in self._running.values():
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._running.values())


def _do(do: Callable[[Work], object], work: Work) -> None:
    try:
        do(work)
    except Exception as error:  # for whoever waits
        work.end(error)
    else:
        work.end()
