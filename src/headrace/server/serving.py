"""Between the event loop and the engines: requests lease a model, and what it answers is pushed to them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headrace.answers import Answers
from headrace.engine.request import Finished, Output
from headrace.engine.residents import Residents
from headrace.errors import Busy, DeadlineExceeded, ModelClosed
from headrace.events import Choice
from headrace.model import Model

T = TypeVar("T")
Gone = Callable[[], bool]

GOING_DOWN = "the server is shutting down: try again later"


@dataclass(eq=False, slots=True)
class Mailbox:
    """What an engine's thread puts, for a coroutine to take: one waking for all that came meanwhile."""

    loop: asyncio.AbstractEventLoop
    items: deque[tuple[int, Output]] = field(default_factory=deque)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _woken: bool = False

    def put(self, item: tuple[int, Output]) -> None:
        """From any thread. What comes after the loop has ended is nobody's."""
        self.items.append(item)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._wake)
            except RuntimeError:
                return

    def _wake(self) -> None:
        self._woken = False  # before the items are taken: whoever puts from here on wakes again
        self._filled.set()

    async def taken(self, deadline: float) -> AsyncIterator[tuple[int, Output]]:
        """Without end. Raises TimeoutError after the `deadline`, by the loop's time."""
        while True:
            async with asyncio.timeout_at(deadline):
                await self._filled.wait()
            if self.loop.time() > deadline:
                raise TimeoutError
            self._filled.clear()
            while self.items:
                yield self.items.popleft()


@dataclass(eq=False, slots=True)
class Running:
    """Answers on their way. Iterate for their events; leaving the block that gave it cancels what has not ended."""

    model: Model
    answers: Answers
    load_s: float
    _mailbox: Mailbox
    _deadline: float
    _allowed_s: float

    async def __aiter__(self) -> AsyncIterator[Choice]:
        """Raises DeadlineExceeded, ModelClosed, and what ends a sequence early."""
        left = len(self.answers.sequences)
        self.answers.begin(self._mailbox.put)
        try:
            async for number, output in self._mailbox.taken(self._deadline):
                for event in self.answers.events(number, output):
                    yield Choice(number, event)
                left -= isinstance(output, Finished)
                if not left:
                    return
        except TimeoutError:
            raise _too_late(self._allowed_s) from None


def _too_late(allowed_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"it took longer than the {allowed_s:g} seconds that a request may")


@dataclass(frozen=True, slots=True)
class _Leased(Generic[T]):
    model: Model
    value: T
    load_s: float
    leave: Callable[[], object]


class Serving:
    """The models, and how many requests may be asked of them at once. Its methods are for one event loop.

    `max_queue` requests may wait or be answered at a time; those that come beyond raise Busy. None may take longer than
    `deadline_s`.
    """

    def __init__(self, models: Residents[Model], *, max_queue: int = 512, deadline_s: float = 3600.0) -> None:
        self.models = models
        self.max_queue, self.deadline_s = max_queue, deadline_s
        self.in_flight = 0
        self._going_down = False
        self._mailboxes: set[Mailbox] = set()
        self._waiting: set[asyncio.Future[None]] = set()  # who waits for a lease: done when there is none to come
        self._entered: set[Future[Any]] = set()
        # A lease may wait long for its model, so there is a thread for each; who leaves must not wait for them.
        self._entering = ThreadPoolExecutor(max_queue, "headrace-enter")
        self._leaving = ThreadPoolExecutor(4, "headrace-leave")

    @asynccontextmanager
    async def answering(
        self, name: str, ask: Callable[[Model], Answers], keep_alive_s: float | None = None
    ) -> AsyncIterator[Running]:
        """What `ask` asks of the model, which runs in a thread. Raises what it does, and what a lease does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.deadline_s
        with self._counted():
            leased = await self._lease(name, lambda model, _: ask(model), keep_alive_s, deadline)
            mailbox = Mailbox(loop)
            self._mailboxes.add(mailbox)
            try:
                yield Running(leased.model, leased.value, leased.load_s, mailbox, deadline, self.deadline_s)
            except ModelClosed:
                self._replace(name)
                raise
            finally:
                leased.value.cancel()
                self._mailboxes.discard(mailbox)
                self._leaving.submit(leased.leave)

    async def call(self, name: str, work: Callable[[Model], T], keep_alive_s: float | None = None) -> tuple[T, float]:
        """What `work` returns, done in a thread, and the seconds that loading took."""
        return await self.watched_call(name, lambda model, _: work(model), keep_alive_s)

    async def watched_call(
        self, name: str, work: Callable[[Model, Gone], T], keep_alive_s: float | None = None
    ) -> tuple[T, float]:
        """The same for a long work, which should ask now and then whether its client is gone, and then end."""
        with self._counted():
            deadline = asyncio.get_running_loop().time() + self.deadline_s
            leased = await self._lease(name, work, keep_alive_s, deadline)
            self._leaving.submit(leased.leave)
            return leased.value, leased.load_s

    def go_down(self) -> None:
        """Takes no more requests, and ends those that run or wait with an error that says so."""
        self._going_down = True
        for mailbox in self._mailboxes:
            mailbox.put((0, ModelClosed(GOING_DOWN)))
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    def close(self) -> bool:
        """Blocks until the models are unloaded. False: some thread is still loading one."""
        self.go_down()
        self.models.close(timeout_s=5.0)
        self._entering.shutdown(wait=False, cancel_futures=True)
        self._leaving.shutdown()
        return not any(entering.running() for entering in self._entered)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._going_down:
            raise Busy(GOING_DOWN)
        if self.in_flight >= self.max_queue:
            raise Busy(f"{self.max_queue} requests are waiting or being answered, which is the most: try again later")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _lease(
        self, name: str, work: Callable[[Model, Gone], T], keep_alive_s: float | None, deadline: float
    ) -> _Leased[T]:
        """A thread waits for the model. Who leaves meanwhile leaves the lease, if it comes, to nobody."""
        given_up = threading.Event()

        def enter() -> _Leased[T]:
            with ExitStack() as stack:
                asked = time.perf_counter()
                model = stack.enter_context(self.models.lease(name, keep_alive_s=keep_alive_s, given_up=given_up))
                load_s = time.perf_counter() - asked
                return _Leased(model, work(model, given_up.is_set), load_s, stack.pop_all().close)

        entering = self._entering.submit(enter)
        self._entered.add(entering)
        entering.add_done_callback(self._entered.discard)
        arrived, told, taken = asyncio.wrap_future(entering), asyncio.get_running_loop().create_future(), False
        self._waiting.add(told)
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.wait({arrived, told}, return_when=asyncio.FIRST_COMPLETED)
            if self._going_down:
                raise ModelClosed(GOING_DOWN)
            taken = True
        except TimeoutError:
            raise _too_late(self.deadline_s) from None
        finally:
            self._waiting.discard(told)
            if not taken:
                self._abandon(entering, arrived, given_up)
        try:
            return await arrived
        except ModelClosed:
            self._replace(name)
            raise

    def _replace(self, name: str) -> None:
        """A model whose engine has ended by itself would refuse all that comes: the next request loads it again."""
        if not self._going_down:
            self._leaving.submit(self.models.unload, name)

    def _abandon(
        self, entering: Future[_Leased[T]], arrived: asyncio.Future[_Leased[T]], given_up: threading.Event
    ) -> None:
        self.models.give_up(given_up)
        if not arrived.cancel() and not arrived.cancelled():
            arrived.exception()  # nobody else asks for it
        entering.add_done_callback(self._leave)

    def _leave(self, entering: Future[_Leased[T]]) -> None:
        if not entering.cancelled() and not entering.exception():
            with suppress(RuntimeError):  # the server has ended, and its models with it
                self._leaving.submit(entering.result().leave)
