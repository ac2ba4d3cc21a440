"""One thread that owns a model: schedule, step, commit, again. Others put sequences in and read their queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.engine.batch import Batch, Part, Stepped
from headrace.engine.request import Sequence
from headrace.engine.scheduler import Scheduler
from headrace.engine.status import Counts
from headrace.engine.turns import Turns
from headrace.errors import ModelClosed

T = TypeVar("T")


class Core(Protocol):
    """The part of `_core.Model` that the engine calls."""

    def step(self, batch: Batch) -> tuple[Any, ...]: ...  # the fields of Stepped

    def logits(self, batch: Batch) -> NDArray[np.float32]: ...

    def hidden(self, batch: Batch) -> NDArray[np.float32]: ...

    def copy_block(self, source: int, target: int) -> None: ...


class Engine:
    """Runs sequences on `core`. `submit` returns at once; a sequence's outputs arrive in its own queue.

    Engines that are given the same `turns` share the threads of the machine: they step one at a time.
    """

    def __init__(self, core: Core, scheduler: Scheduler, turns: Turns | None = None) -> None:
        self._core = core
        self._scheduler = scheduler
        self._turn = (turns or Turns()).turn()
        self._arrived: list[Sequence] = []
        self._calls: list[Callable[[], None]] = []
        self._counts = scheduler.counts()  # a new one before each step, for others to read while it runs
        self._closing = False
        self._changed = threading.Condition()
        self._masks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="headrace-masks")  # starts when it is used
        self._thread = threading.Thread(target=self._loop, name="headrace-engine", daemon=True)
        self._thread.start()

    def submit(self, sequence: Sequence) -> Sequence:
        with self._changed:
            if self._closing:
                raise ModelClosed("the model is closed: load it again to ask more of it")
            self._arrived.append(sequence)
            self._changed.notify()
        return sequence

    def call(self, work: Callable[[Scheduler, Core], T]) -> T:
        """Runs `work` between two steps, on the engine's thread, which owns all of it, and returns what it returns."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work(self._scheduler, self._core))
            except BaseException as error:  # it is the caller's, not the engine's
                done.set_exception(error)

        with self._changed:
            if self._closing:
                raise ModelClosed("the model is closed: load it again to ask more of it")
            self._calls.append(run)
            self._changed.notify()
        return done.result()

    def counts(self) -> Counts:
        """As of the last step, or of the one that runs: it does not wait for its end."""
        with self._changed:
            return self._counts._replace(waiting=self._counts.waiting + len(self._arrived))

    def close(self) -> None:
        """Ends what runs and waits for the thread. Closing twice is fine."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loop(self) -> None:
        try:
            self._run()
        finally:  # whatever ends this thread: nobody may wait for it
            with self._changed:
                self._closing = True

    def _run(self) -> None:
        while self._take_arrivals():
            try:
                parts = self._scheduler.schedule()
                self._counts = self._scheduler.counts()
                if parts:
                    self._step(parts)
            except BaseException as error:  # whatever it is, its askers must not wait for ever
                self._scheduler.fail(error)
            if self._scheduler.idle:
                self._counts = self._scheduler.counts()
                self._turn.rest()
        self._turn.rest()
        self._masks.shutdown()
        self._scheduler.fail(ModelClosed("the model was closed while it was still answering"))
        del self._core  # with its weights and its cache, whoever else may still hold the engine

    def _take_arrivals(self) -> bool:
        """Moves new sequences into the queue, waiting for one if there is nothing else to do. False: time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._arrived or self._calls or not self._scheduler.idle)
            self._scheduler.waiting.extend(self._arrived)
            self._arrived.clear()
            calls, self._calls = self._calls, []
            closing = self._closing
        for call in calls:
            call()
        return not closing

    def _step(self, parts: SequenceOf[Part]) -> None:
        for source, target in self._scheduler.copies:
            self._core.copy_block(source, target)
        batch = Batch.of(parts)
        # Whoever sits this step out gets its mask meanwhile: the core does not hold the GIL, nor does a grammar.
        ahead = [self._masks.submit(constraint.mask) for constraint in self._scheduler.unmasked(parts)]
        if (wanted := parts[0].sequence.wants) != "tokens":
            with self._turn:
                rows = (self._core.logits if wanted == "logits" else self._core.hidden)(batch)
            wait(ahead)
            self._scheduler.commit_rows(parts, rows)
        else:
            with self._turn:
                started = time.perf_counter()
                stepped = Stepped._make(self._core.step(batch))
                seconds = time.perf_counter() - started
            wait(ahead)
            self._scheduler.commit(parts, stepped, seconds)
