"""Calls without their sentinels: a list that is the whole reply, or ends it. The rest is prose."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from headrace.text.offered import Offered, bind
from headrace.text.pythonic import Call, More
from headrace.text.pythonic.reader import NAME, Reader
from headrace.text.pythonic.requote import only_reading

MAX_MENDINGS: Final = 16  # of quotes, in one reply

# A list does not begin behind these: there it is an index, a link, or code.
_NOT_BEHIND: Final = re.compile(r"[A-Za-z0-9_`=\\\[\]]\Z")
_ARGUMENT_BEGUN: Final = re.compile(r"\s*\(\s*(?:[^\W\d][\w.-]*\s*=|['\"{])")


@dataclass(frozen=True, slots=True)
class Bound:
    """A call with its arguments by name."""

    name: str
    arguments: dict[str, Any]


class Prose:
    """Lets prose through, and holds back from where a list may begin until it is known to be none.

    With tools on offer a list counts if it names nothing else; where it is not known what was offered (None), any does.
    """

    __slots__ = ("_alone", "_code", "_held", "_last", "_mendings", "_names", "_parameters", "_strangers")

    def __init__(self, offered: Offered | None) -> None:
        self._parameters = offered or {}
        self._names: Collection[str] = tuple(self._parameters)
        self._strangers = offered is None
        self._held = ""
        self._last = ""  # character that was let through
        self._alone = True  # nothing but space was
        self._code = _Code()
        self._mendings = MAX_MENDINGS

    def feed(self, text: str) -> str:
        """What is certain to be prose."""
        self._held += text
        return self._sift(growing=True)[0]

    def finish(self, ends: bool = True) -> tuple[str, list[Bound]]:
        """What was held back: prose, and calls. Unless the reply `ends` here, it is all prose."""
        if ends:
            return self._sift(growing=False)
        return self._pass(len(self._held)), []

    def interrupt(self) -> None:
        """Something other than prose came between."""
        self._alone, self._last = False, ""

    def _sift(self, growing: bool) -> tuple[str, list[Bound]]:
        prose: list[str] = []
        while self._held:
            prose.append(self._pass(self._beginning()))
            try:
                calls = self._calls(growing) if self._held else []
            except More:
                break
            if calls:
                self._held, self._alone = "", False
                return "".join(prose), calls
            prose.append(self._pass(1))  # it begins no list
        return "".join(prose), []

    def _pass(self, count: int) -> str:
        """Let through so many characters."""
        text, self._held = self._held[:count], self._held[count:]
        if text:
            self._last = text[-1]
            self._alone = self._alone and text.isspace()
            self._code.feed(text)
        return text

    def _beginning(self) -> int:
        """Where the next list may begin in what is held."""
        if not (self._strangers or self._names):
            return len(self._held)
        if self._alone and self._names:
            return len(self._held) - len(self._held.lstrip())
        start = self._held.find("[")
        return len(self._held) if start < 0 else start

    def _calls(self, growing: bool) -> list[Bound]:
        """The calls that the held text is; none where it is none. Raises More where it may become some."""
        if _NOT_BEHIND.match(self._last) or self._code.open:
            return []
        try:
            calls = self._read(Reader(self._held, growing=growing, names=self._names, strangers=self._strangers))
        except (ValueError, RecursionError):
            if not self._opens_call() or not self._mendings:
                return []
            if growing:
                raise More from None  # its quotes may be mended when all of it is there
            self._mendings -= 1
            calls = only_reading(self._held, self._read, self._names) or []
        if not all(self._counts(call) for call in calls):
            return []
        try:
            return [
                Bound(call.name, bind(call.positional, call.keywords, self._parameters.get(call.name)))
                for call in calls
            ]
        except ValueError:
            return []

    def _read(self, reader: Reader) -> list[Call]:
        if self._held[0] != "[":
            return reader.body()
        calls = reader.list_of_calls()
        return [] if reader.peek() else calls

    def _opens_call(self) -> bool:
        """Whether it is worth waiting for the end: a call with something like an argument has begun."""
        opening = self._held.removeprefix("[").lstrip()
        names = [name for name in self._names if opening.startswith(name)]
        if self._strangers and self._held[0] == "[" and (word := NAME.match(opening)):
            names.append(word[0])
        return any(_ARGUMENT_BEGUN.match(opening, len(name)) for name in names)

    def _counts(self, call: Call) -> bool:
        """No object of JSON, and a mere word only if it is the name of a tool."""
        offered = call.name in self._parameters
        return self._held[call.start] != "{" and (offered or (self._strangers and not call.bare))


class _Code:
    """Whether text is inside back-ticks."""

    __slots__ = ("_fence", "_run")

    def __init__(self) -> None:
        self._run = ""  # of back-ticks at the end
        self._fence = ""  # what the code began with

    @property
    def open(self) -> bool:
        return bool(self._fence or self._run)

    def feed(self, text: str) -> None:
        text = self._run + text
        self._run = text[len(text.rstrip("`")) :]
        for match in re.finditer(r"`+|\n\s*\n", text[: len(text) - len(self._run)]):
            self._meet(match[0])

    def _meet(self, mark: str) -> None:
        if mark[0] != "`":  # a paragraph ends, and with it what is in single back-ticks
            self._fence = self._fence if len(self._fence) >= 3 else ""
        elif not self._fence:
            self._fence = mark
        elif len(mark) == len(self._fence) or len(mark) > len(self._fence) >= 3:
            self._fence = ""
