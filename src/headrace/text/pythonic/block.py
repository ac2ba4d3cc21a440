"""What stands between two sentinels: all of its calls, or those that can be saved."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from headrace.text.pythonic.reader import Call, Reader
from headrace.text.pythonic.requote import only_reading

_T = TypeVar("_T")

_MARK: Final = re.compile(r"\\.|[\"'()\[\]{},;\n]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Unread:
    """What is no call, as it stands in the text."""

    text: str


def read_block(body: str, names: Collection[str] = (), whole: bool = True) -> list[Call | Unread]:
    """Calls, and what lies between them that cannot be read, in their order. `names`: what offered tools are called.

    Unless `whole`, the block was cut off, and a name at its end may be half a name.
    """
    if not body.strip():
        return []
    calls = _read(body, Reader.body, names)
    if calls is not None and (whole or body.rstrip().endswith("]") or not calls[-1].bare):
        return list(calls)
    ways = [[_item(body, start, end, names) for start, end in _segments(body, strings)] for strings in (True, False)]
    best = max(ways, key=lambda items: sum(isinstance(item, Call) for item in items))
    return best if any(isinstance(item, Call) for item in best) else [Unread(body)]


def _read(text: str, read: Callable[[Reader], _T], names: Collection[str], at: int = 0) -> _T | None:
    """As its quotes say, else in the only way that quotes inside of strings leave."""
    try:
        return read(Reader(text, at, names=names))
    except (ValueError, RecursionError):
        return only_reading(text, read, names, at)


def _item(body: str, start: int, end: int, names: Collection[str]) -> Call | Unread:
    return _read(body[:end], _lone_call, names, start) or Unread(body[start:end].strip())


def _lone_call(reader: Reader) -> Call:
    call = reader.call()
    if call.bare or reader.peek():
        reader.fail("a call and nothing else")
    return call


def _segments(body: str, strings: bool) -> Iterator[tuple[int, int]]:
    """Where the items of a list begin and end, by its brackets; quotes may be broken, so with or without `strings`."""
    start, stop = len(body) - len(body.lstrip()), len(body.rstrip())
    depth, quote = 0, ""
    if body[start] == "[":
        start += 1
        balanced = sum(map(body.count, "([{")) == sum(map(body.count, ")]}"))
        stop -= balanced and body[stop - 1] == "]"
    for match in _MARK.finditer(body, start, stop):
        mark = match[0]
        if quote:
            quote = "" if mark == quote else quote
        elif strings and mark in "\"'":
            quote = mark
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        elif mark in ",;\n" and depth == 0:
            if body[start : match.start()].strip():
                yield start, match.start()
            start = match.end()
    if body[start:stop].strip():
        yield start, stop
