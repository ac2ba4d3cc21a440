"""Strings whose inner quotes were not escaped: `f(command='sed -n '1,5p' a.py')`.

Any later quote with a plausible follower may be the closing one. Every such reading is tried; one that swallows an
argument, an item or another call into a string is none. Where exactly one is left, that is what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from headrace.text.pythonic.literals import string_end
from headrace.text.pythonic.reader import Reader

_T = TypeVar("_T")

MAX_READINGS: Final = 512  # tried, good or bad
MAX_WORK: Final = 4_000_000  # characters read, all readings together

_FOLLOWED: Final = re.compile(r"\s*(?:[,)\]}:]|\Z)")
_VALUE: Final = r"(?:[\[{('\"+\-.\d]|[rRuUfFbB]{1,2}['\"]|(?:True|False|None|true|false|null)\b)"
_ARGUMENT: Final = re.compile(rf",\s*(?:[^\W\d]\w*(?:[-.]\w+)*\s*=\s*{_VALUE}|\*\*\s*\{{)")
_ENTRY: Final = re.compile(rf"\s*:\s*{_VALUE}|\s*,\s*['\"][^'\"]*['\"]\s*:")
_ITEM: Final = re.compile(r"\s*,\s*['\"]")
_NOTABLE: Final = re.compile(r"\\.|[\"'()\[\]{},]", re.DOTALL)
_CALL_END: Final = re.compile(r"\)\s*(?:\]|,\s*[\w-]+(?:[.:/][\w-]+)*\s*\()")


def only_reading(text: str, read: Callable[[Reader], _T], names: Collection[str] = (), at: int = 0) -> _T | None:
    """What `read` makes of `text` from `at` if there is exactly one way; else None. Where it cannot, `read` raises
    ValueError."""
    found: list[_T] = []
    open_ = [_Choices(text)]
    tried = 0
    while open_:
        choices = open_.pop()
        tried += 1
        if tried > MAX_READINGS or tried * len(text) > MAX_WORK + len(text):
            return None
        with suppress(ValueError, RecursionError):
            found.append(read(Reader(text, at, names=names, closing=choices.closing)))
        if len(found) > 1:
            return None
        open_ += choices.others()
    return found[0] if found else None


@dataclass(slots=True)
class _Choices:
    """Which closing quote each string takes, in the order in which strings are read: as in `given`, then the first."""

    text: str
    given: list[int] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # how many there were to choose from

    def closing(self, start: int, quote: str, bracket: str) -> int | None:
        if len(quote) == 3:
            return string_end(self.text, start, quote)
        ends = _ends(self.text, start, quote, bracket)
        if not ends:
            return None
        choice = self.given[len(self.made)] if len(self.made) < len(self.given) else 0
        self.made.append(choice)
        self.numbers.append(len(ends))
        return ends[choice]

    def others(self) -> list[_Choices]:
        """The choices that begin as these did and then differ."""
        return [
            _Choices(self.text, [*self.made[:place], other])
            for place in range(len(self.given), len(self.made))
            for other in range(1, self.numbers[place])
        ]


def _ends(text: str, start: int, quote: str, bracket: str) -> list[int]:
    """The quotes that may close a string, nearest first, up to where it would swallow what is no part of it."""
    ends: list[int] = []
    depth = 0  # of brackets in the string's own text: an argument of a call in it is its own
    for match in _NOTABLE.finditer(text, start):
        at, mark = match.start(), match[0]
        if mark == quote:
            if _FOLLOWED.match(text, at + 1):
                ends.append(at)
            if depth <= 0 and bracket and (_ENTRY if bracket == "{" else _ITEM).match(text, at + 1):
                break
        elif mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
            if depth < 0 and _CALL_END.match(text, at):
                break
        elif mark == "," and depth <= 0 and _ARGUMENT.match(text, at):
            break
    return ends
