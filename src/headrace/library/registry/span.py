"""The bytes of a blob as a registry sends them: where they begin, and no more of them than there can be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Final

import httpx

from headrace.errors import ServerFailed
from headrace.library.manifest import Layer
from headrace.library.registry.client import Place, Registry
from headrace.library.registry.patience import Clock, Passing, Settings, Stopped

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


@dataclass(slots=True)
class Span:
    """`start` is where the bytes begin that `pieces` gives; `is_range` whether the registry sends what it is asked for
    rather than everything."""

    start: int
    is_range: bool
    pieces: Iterator[bytes] = field(repr=False)


@contextmanager
def opened(
    registry: Registry, place: Place, layer: Layer, first: int, stop: int, ranged: bool = True
) -> Iterator[Span]:
    """The bytes of a blob from `first` up to `stop`, or all of it where the registry gives no ranges, or is not asked
    for one (`ranged`). Raises Passing, RangeRefused, Stopped, and what `Registry.blob` raises.
    """
    asked = f"bytes={first}-{stop - 1}" if ranged and first < stop else None
    with registry.blob(place, layer.digest, asked) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Passing(ServerFailed(f"{_name(response)} sends {layer.digest} encoded, and it was not asked to"))
        if response.status_code == 416:
            raise RangeRefused(f"{_name(response)} has no bytes {first} to {stop} of {layer.digest}")
        start, length = _ranged(response, layer, first, stop) if response.status_code == 206 else (0, layer.size)
        _check_length(response, layer, length)
        pace = Pace(registry.settings, registry.patience.clock, _name(response))
        pieces = _pieces(response, length, pace, registry.patience.stop)
        yield Span(start, response.status_code == 206, pieces)


class RangeRefused(Passing):
    """The registry says that there is no such range: it may have the whole."""

    def __init__(self, sentence: str) -> None:
        super().__init__(ServerFailed(sentence))


class Pace:
    """Whether bytes come fast enough to wait for them. Raises Passing where they do not."""

    def __init__(self, settings: Settings, clock: Clock, name: str) -> None:
        self._settings, self._clock, self._name = settings, clock, name
        self._since, self._bytes = clock.now(), 0

    def count(self, size: int) -> None:
        self._bytes += size
        if self._clock.now() - self._since < self._settings.slow_s:
            return
        if self._bytes < self._settings.slow_bytes:
            sentence = f"{self._name} has sent only {self._bytes} bytes in {self._settings.slow_s:g} seconds"
            raise Passing(ServerFailed(f"{sentence}: try again later"))
        self._since, self._bytes = self._clock.now(), 0


def _ranged(response: httpx.Response, layer: Layer, first: int, stop: int) -> tuple[int, int]:
    """Where the range begins, and its length. It must begin where it should; it may be shorter."""
    text = response.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(text.strip())
    total = found[3] if found else ""
    if found and total not in ("*", str(layer.size)):
        sentence = f"{_name(response)} has {total} bytes of {layer.digest}, and the manifest says {layer.size}"
        raise Passing(ServerFailed(sentence))
    if not found or int(found[1]) != first or not first <= int(found[2]) < stop:
        raise Passing(
            ServerFailed(f"{_name(response)} was asked for bytes {first} to {stop - 1} and sends {text[:80]!r}")
        )
    return first, int(found[2]) + 1 - first


def _check_length(response: httpx.Response, layer: Layer, length: int) -> None:
    said = response.headers.get("content-length")
    if said is not None and said != str(length):
        sentence = f"{_name(response)} wants to send {said[:20]} bytes of {layer.digest}, and {length} are expected"
        raise Passing(ServerFailed(sentence))


def _pieces(response: httpx.Response, length: int, pace: Pace, stop: Event) -> Iterator[bytes]:
    """At most `length` bytes: what is more is nobody's. Raises Passing where there are fewer.

    The end of the answer is waited for, so that its connection serves the next one.
    """
    left = length
    for piece in response.iter_raw():
        if stop.is_set():
            raise Stopped
        yield piece[:left]
        pace.count(len(piece))
        if len(piece) > left:
            return
        left -= len(piece)
    if left:
        raise Passing(ServerFailed(f"{_name(response)} ended {left} bytes early"))


def _name(response: httpx.Response) -> str:
    return response.url.host
