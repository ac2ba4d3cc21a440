"""Blobs of a model, fetched over several connections at once into files that know what of them is there.

A blob is asked for part by part. Its first part shows whether the registry gives ranges: if so, the other parts are
dealt out to whoever is free; if not, all that is missing comes in one stream, and what comes before it is passed over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Lock, Thread
from typing import Final

from headrace.errors import ServerFailed
from headrace.library.manifest import Layer
from headrace.library.partial import Partial
from headrace.library.registry.client import Place, Registry
from headrace.library.registry.patience import Passing, Stopped
from headrace.library.registry.span import RangeRefused, Span, opened

REPORT_S: Final = 0.1  # between two reports
LEAVING_S: Final = 2.0  # that threads have to notice that they are not wanted any more


@dataclass(frozen=True, slots=True)
class Incoming:
    """A blob on its way in."""

    layer: Layer
    partial: Partial


@dataclass(slots=True)
class Part:
    """Bytes of a blob, from `at` up to `stop`, which are still missing. `is_first`: nothing is known of the registry's
    ranges yet, and the other parts wait for it. `by_range`: whether it is worth asking for a range."""

    blob: Incoming
    at: int
    stop: int
    is_first: bool = False
    by_range: bool = True


Report = Callable[[Incoming], None]


class Fetch:
    """Fetches blobs with threads of its own, which share `registry`. Used once."""

    def __init__(self, registry: Registry, place: Place) -> None:
        self._registry, self._place = registry, place
        self._stop = registry.patience.stop
        self._change = Condition()
        self._parts: deque[Part] = deque()
        self._running = 0  # threads
        self._busy = 0  # threads that have a part, and may find more
        self._writes = [Lock() for _ in range(registry.settings.connections)]  # one for each thread
        self._failure: BaseException | None = None

    def run(self, blobs: Sequence[Incoming], report: Report) -> None:
        """Until all bytes of the blobs are there, whatever they are; `report` is called in this thread.

        Raises what the first thread failed with; Stopped, where the registry's `stop` is set. What was received stays
        in the partials, also when `report` raises.
        """
        for blob in blobs:
            for part in self._divided(blob)[:1]:
                part.is_first = True
                self._parts.append(part)
        threads = [Thread(target=self._work, args=(lock,), daemon=True) for lock in self._writes]
        try:
            self._running = len(threads)
            for thread in threads:
                thread.start()
            self._watch(blobs, report)
            if self._failure:
                raise self._failure
        except BaseException:
            self._leave(threads)
            raise

    def _watch(self, blobs: Sequence[Incoming], report: Report) -> None:
        shown = dict[str, int]()
        while True:
            with self._change:
                running = self._running
            for blob in blobs:
                received = blob.partial.received
                if shown.get(blob.layer.digest) != received:
                    shown[blob.layer.digest] = received
                    report(blob)
            # A thread that fails sets `stop`, too: after its failure, which is therefore looked at last.
            is_left = self._stop.is_set()
            if is_left and not self._failure:
                raise Stopped
            if not running or self._failure:
                return
            with self._change:
                self._change.wait_for(lambda: not self._running or self._failure, REPORT_S)

    def _leave(self, threads: Sequence[Thread]) -> None:
        """When it returns nothing is written any more, even if a thread still waits for a name to be resolved."""
        self._give_up()
        until = time.monotonic() + LEAVING_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        for lock in self._writes:
            with lock:
                pass

    def _give_up(self) -> None:
        self._stop.set()
        self._registry.hang_up()
        with self._change:
            self._change.notify_all()

    def _divided(self, blob: Incoming) -> list[Part]:
        """What is missing of a blob, in parts. A blob without bytes has none."""
        size = self._registry.settings.part_bytes
        return [
            Part(blob, start, min(start + size, stop))
            for first, stop in blob.partial.missing()
            for start in range(first, stop, size)
        ]

    # --- in the threads

    def _work(self, writes: Lock) -> None:
        try:
            while part := self._next():
                try:
                    self._fetch(part, writes)
                finally:
                    self._done()
        except Stopped:
            pass
        except BaseException as failure:
            with self._change:
                if not self._stop.is_set():
                    self._failure = self._failure or failure
            self._give_up()
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def _next(self) -> Part | None:
        """Another part; None if there are none, and nobody is at work who may find more."""
        with self._change:
            while not self._parts and self._busy and not self._stop.is_set():
                self._change.wait()
            if self._stop.is_set() or not self._parts:
                return None
            self._busy += 1
            return self._parts.popleft()

    def _done(self) -> None:
        with self._change:
            self._busy -= 1
            self._change.notify_all()

    def _fetch(self, part: Part, writes: Lock) -> None:
        """Until it is there, as long as tries bring something."""
        settings, number = self._registry.settings, 0
        while part.at < part.stop:
            before = part.at
            try:
                self._ask(part, writes)
            except Passing as passing:
                if isinstance(passing, RangeRefused):
                    part.by_range = False
                number = 1 if part.at - before >= settings.worthwhile_bytes else number + 1
                if part.at < part.stop:
                    self._registry.patience.wait(passing, number, settings.tries)

    def _ask(self, part: Part, writes: Lock) -> None:
        """Writes down what one request brings. Raises Passing."""
        layer, partial = part.blob.layer, part.blob.partial
        with opened(self._registry, self._place, layer, part.at, part.stop, part.by_range) as span:
            self._learn(part, span)
            at = span.start
            for piece in span.pieces:
                useful = piece[max(0, part.at - at) : max(0, part.stop - at)]
                at += len(piece)
                with writes:
                    if self._stop.is_set():
                        raise Stopped
                    if useful:
                        partial.write(part.at, useful)
                part.at += len(useful)
                if at > part.stop:
                    return  # the rest belongs to others
        if part.at < part.stop:
            raise Passing(ServerFailed(f"{self._registry.host.name} sends less of {layer.digest} than it is asked for"))

    def _learn(self, part: Part, span: Span) -> None:
        """What the first answer for a blob says of those to come."""
        if not part.is_first:
            return
        part.is_first = False
        if not span.is_range:
            part.stop = part.blob.layer.size
            return
        with self._change:
            self._parts.extend(other for other in self._divided(part.blob) if other.at >= part.stop)
            self._change.notify_all()
