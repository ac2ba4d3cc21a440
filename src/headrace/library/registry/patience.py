"""How long a registry is tried: what may be over at the next try, the waits between tries, and when it is enough."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Event
from typing import Final, Protocol, TypeVar

from headrace.errors import HeadraceError, ServerFailed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a registry is asked. Times in seconds, sizes in bytes."""

    connections: int = 6
    part_bytes: int = 32 << 20  # of a blob, fetched by one request
    chunk_bytes: int = 64 << 20  # of a blob, sent by one request
    connect_s: float = 10.0
    stall_s: float = 30.0  # without a byte, then the connection is given up
    slow_bytes: int = 60 << 10  # fewer than these within `slow_s` are as good as none
    slow_s: float = 60.0
    first_tries: int = 4  # of a question that nothing has been spent on yet
    tries: int = 8  # of a part of a blob, in a row, each with less than `worthwhile_bytes`
    worthwhile_bytes: int = 64 << 10
    first_wait_s: float = 0.5  # doubled with each try
    longest_wait_s: float = 30.0
    longest_asked_s: float = 300.0  # that a registry may ask us to wait


USUAL: Final = Settings()


class Clock(Protocol):
    """Time, as tests replace it."""

    def now(self) -> float:
        """Seconds since some moment, never running back."""

    def wait(self, stop: Event, seconds: float) -> None:
        """Returns after so many seconds, or as soon as `stop` is set."""


class SystemClock:
    def now(self) -> float:
        return time.monotonic()

    def wait(self, stop: Event, seconds: float) -> None:
        stop.wait(seconds)


class Passing(Exception):
    """What may be over at the next try. `error` is what it is otherwise; `after_s` is what the registry asked for."""

    def __init__(self, error: HeadraceError, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


class Stopped(Exception):
    """Whoever wanted it has left."""


class Patience:
    """Waits between tries, twice as long each time, by chance somewhat shorter so that not all clients come back at
    once, and at least as long as the registry asked for. `stop` ends a wait."""

    def __init__(self, settings: Settings = USUAL, clock: Clock | None = None, stop: Event | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.stop = stop or Event()

    def ask(self, question: Callable[[], T]) -> T:
        """What it gives, at one of the first tries. Raises what the last one failed with; Stopped."""
        for number in count(1):
            try:
                return question()
            except Passing as passing:
                self.wait(passing, number, self.settings.first_tries)
        raise AssertionError

    def wait(self, passing: Passing, number: int, tries: int) -> None:
        """After try `number` (from 1) of `tries` failed. Raises its error where it was the last; Stopped."""
        if self.stop.is_set():
            raise Stopped
        asked = passing.after_s or 0.0
        if asked > self.settings.longest_asked_s:
            raise ServerFailed(f"{passing.error} (it asks for {asked:.0f} seconds of patience): try again later")
        if number >= tries:
            raise passing.error
        seconds = min(self.settings.longest_wait_s, self.settings.first_wait_s * 2 ** (number - 1))
        self.clock.wait(self.stop, max(asked, seconds * random.uniform(0.5, 1.0)))
        if self.stop.is_set():
            raise Stopped


def retry_after(text: str, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header means, a number or a date; None where it means nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
