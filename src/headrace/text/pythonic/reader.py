"""Reading calls. Not `ast`: it takes Python's reserved words as argument names and JSON's constants as values, it can
read what is still being written, and no text that a model can write makes it recurse without end.

    body     := list {[","] list} | call {"," call}
    list     := "[" [call {"," call} [","]] "]"
    call     := name | name "(" [argument {"," argument} [","]] ")" | a JSON object with a name and arguments
    argument := value | word "=" value | "**" dict
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Never, Protocol, TypeVar

from headrace.text.pythonic.literals import (
    CONSTANTS,
    NUMBER,
    NUMBER_BEGUN,
    STRING,
    WORD,
    number_value,
    string_end,
    string_value,
)
from headrace.text.pythonic.writing import is_name

_T = TypeVar("_T")

MAX_DEPTH: Final = 100

_SPACE: Final = re.compile(r"\s*")
# OpenAI's names have letters, digits, _ and -, in any place; what is all digits is a number.
NAME: Final = re.compile(r"(?=[\d-]*[^\W\d])[\w-]+(?:[.:/][\w-]+)*")
_NAME_BEGUN: Final = re.compile(r"[\w-][\w.:/-]*")
_KEY: Final = re.compile(r"([^\W\d]\w*(?:[-.]\w+)*)\s*=")
_KEY_BEGUN: Final = re.compile(r"[^\W\d][\w.-]*\s*")


class Unreadable(ValueError):
    """What was expected, and where."""


class More(Exception):
    """The text ends where it could go on."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it stands in the text, from `start` to `end`. `bare`: a name without parentheses."""

    name: str
    positional: tuple[Any, ...]
    keywords: dict[str, Any]
    start: int
    end: int
    bare: bool = False


class Watcher(Protocol):
    """Is told of calls while they are read, each thing when nothing that may come can change it."""

    def begin(self, name: str) -> None: ...

    def key(self, name: str) -> None: ...

    def value(self, value: Any) -> None: ...

    def end(self) -> None: ...

    def obscure(self) -> None:
        """From here on, nothing is certain before all is read."""


def parse_calls(body: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls in `body`: `[f(a="x"), g()]`, or the same without its brackets.

    Names may be dotted, arguments are by keyword (any word, Python's own included) or in `**{...}` and keep their
    order. Values: strings in either quote with Python's escapes, numbers, True/False/None and true/false/null, lists,
    dicts; tuples and sets become lists. Raises ValueError with what was expected and where.
    """
    calls = Reader(body).body()
    if not calls or any(call.positional or call.bare for call in calls):
        raise Unreadable("expected calls with arguments by name")
    return [(call.name, call.keywords) for call in calls]


# Where a string ends whose content begins at a place, after these quotes, inside this bracket ("" for an argument).
Closing = Callable[[int, str, str], int | None]


@dataclass(slots=True)
class Reader:
    """Recursive descent over `text` from `at`.

    `growing`: more text may come, so what touches the end raises More. `names`: what offered tools are called,
    whatever characters that takes; without `strangers` nothing else is a name. `closing` says where strings end if
    not where their quotes do.
    """

    text: str
    at: int = 0
    growing: bool = False
    names: Collection[str] = ()
    strangers: bool = True
    watcher: Watcher | None = None
    closing: Closing | None = None
    brackets: list[str] = field(default_factory=list)
    untold: list[tuple[str | None, Any]] = field(default_factory=list)  # arguments that the watcher does not know

    # What comes next.

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        if self.growing and self.at == len(self.text):
            raise More
        return self.text[self.at : self.at + 1]

    def take(self, mark: str) -> bool:
        """Step over `mark`, one character, if it comes next."""
        found = self.peek() == mark
        self.at += found
        return found

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            self.fail(mark)

    def fail(self, expected: str) -> Never:
        found = self.text[self.at : self.at + 1]
        raise Unreadable(f"expected {expected} at character {self.at}, found {found!r}")

    def match(self, pattern: re.Pattern[str], begun: re.Pattern[str] | None = None) -> re.Match[str] | None:
        """`pattern` here; More where the text ends in what is its beginning."""
        if self.growing and begun and (start := begun.match(self.text, self.at)) and start.end() == len(self.text):
            raise More
        return pattern.match(self.text, self.at)

    # Calls.

    def body(self) -> list[Call]:
        """All of the text."""
        calls: list[Call] = []
        if self.peek() == "[":
            while self.peek() == "[":
                calls += self.list_of_calls()
                self.take(",")
        else:
            calls.append(self.call())
            while self.take(","):
                calls.append(self.call())
        if self.peek():
            self.fail("the end")
        return calls

    def list_of_calls(self) -> list[Call]:
        self.expect("[")
        return self.items("]", self.call)

    def call(self) -> Call:
        if self.peek() == "{":
            return self.json_call()
        start, name = self.at, self.name()
        if not self.take("("):
            if self.watcher:
                self.watcher.obscure()
            return Call(name, (), {}, start, start + len(name), bare=True)
        if self.watcher:
            self.watcher.begin(name)
        positional, keywords = list[Any](), dict[str, Any]()
        self.items(")", lambda: self.argument(positional, keywords))
        call = Call(name, tuple(positional), keywords, start, self.at)
        if self.watcher:
            self.tell_end(self.watcher)
        return call

    def name(self) -> str:
        rest = self.text[self.at :] if self.growing else ""
        if self.growing and any(known.startswith(rest) for known in self.names):
            raise More
        match = self.match(NAME, _NAME_BEGUN if self.strangers else None)
        name = match[0] if match else ""
        if name not in self.names:
            odd = [known for known in self.names if self.text.startswith(known, self.at) and len(known) > len(name)]
            name = max(odd, key=len) if odd else name if self.strangers else ""
        if not name:
            self.fail("a name")
        self.at += len(name)
        return name

    def argument(self, positional: list[Any], keywords: dict[str, Any]) -> None:
        """Reads one into `positional` or `keywords`."""
        if self.peek() == "*":
            given, told = self.unpacked(), False
        elif match := self.match(_KEY, _KEY_BEGUN):
            key, self.at, told = match[1], match.end(), True
            if self.watcher and key not in keywords:
                self.tell(self.watcher)
                self.watcher.key(key)
            given = {key: self.value()}
        else:
            if keywords:
                self.fail("an argument by name")
            if self.watcher:
                self.watcher.obscure()
            positional.append(self.value())
            return
        if repeated := keywords.keys() & given.keys():
            raise Unreadable(f"the argument {min(repeated)!r} is given twice")
        keywords |= given
        self.untold += [(None if told else key, value) for key, value in given.items()]

    def unpacked(self) -> dict[str, Any]:
        self.expect("*")
        if not self.take("*"):
            self.fail("**")
        if self.watcher:
            self.tell(self.watcher)
        given = self.value()
        if not isinstance(given, dict):
            self.fail("a dict")
        return given

    def tell(self, watcher: Watcher) -> None:
        """What was held back until it was known that the next argument follows."""
        for key, value in self.untold:
            if key is not None:
                watcher.key(key)
            watcher.value(value)
        self.untold.clear()

    def tell_end(self, watcher: Watcher) -> None:
        if self.peek() in ("", ",", "]"):
            self.tell(watcher)
            watcher.end()
        else:
            watcher.obscure()

    def json_call(self) -> Call:
        """`{"name": "f", "arguments": {...}}`, `parameters` for `arguments`, or OpenAI's object around them."""
        start = self.at
        if self.watcher:
            self.watcher.obscure()
        given = self.json_object()
        inner = given.get("function", given)
        given = inner if isinstance(inner, dict) else {**given, "name": inner}
        name = given.get("name")
        arguments = given.get("arguments", given.get("parameters"))
        if isinstance(arguments, str):
            arguments = Reader(arguments).json_object()
        if not is_name(name) or not isinstance(arguments, dict | None):
            self.at = start
            self.fail("a call")
        return Call(str(name), (), arguments or {}, start, self.at)

    def json_object(self) -> dict[str, Any]:
        """JSON, or the same with Python's quotes and constants."""
        self.peek()
        try:
            value, self.at = _JSON.raw_decode(self.text, self.at)
        except (ValueError, RecursionError):
            value = self.value()
        if not isinstance(value, dict):
            self.fail("an object")
        return value

    # Values.

    def items(self, close: str, item: Callable[[], _T]) -> list[_T]:
        """Items with commas between them (one may follow the last), up to `close`."""
        items: list[_T] = []
        while not self.take(close):
            items.append(item())
            if not self.take(","):
                self.expect(close)
                break
        return items

    def value(self) -> Any:
        """Any literal."""
        if (mark := self.peek()) and mark in "[({":
            return self.nested(mark)
        if self.match(STRING):
            return self.strings()
        if (word := self.match(WORD, WORD)) and word[0] in CONSTANTS:
            self.at = word.end()
            return CONSTANTS[word[0]]
        if number := self.match(NUMBER, NUMBER_BEGUN):
            self.at = number.end()
            return number_value(number[0])
        return self.fail("a value")

    def strings(self) -> str:
        """A string, or several with nothing but space between them, which are one."""
        text = self.string()
        while self.closing is None and self.text[self.at : self.at + 1].isspace():
            self.peek()
            if not self.match(STRING):
                break
            text += self.string()
        return text

    def string(self) -> str:
        opening = self.match(STRING)
        assert opening
        start, quote = opening.end(), opening["quote"]
        if self.closing:
            end = self.closing(start, quote, self.brackets[-1] if self.brackets else "")
        else:
            end = string_end(self.text, start, quote)
        if end is None:
            if self.growing:
                raise More
            self.fail(f"a string that ends in {quote}")
        self.at = end + len(quote)
        return string_value(self.text[start:end], opening["prefix"])

    def nested(self, bracket: str) -> Any:
        if len(self.brackets) == MAX_DEPTH:
            raise Unreadable(f"values are nested more than {MAX_DEPTH} deep")
        self.brackets.append(bracket)
        self.expect(bracket)
        inside = {"[": self.list_, "(": self.tuple_, "{": self.dict_or_set}[bracket]()
        self.brackets.pop()
        return inside

    def list_(self) -> list[Any]:
        return self.items("]", self.value)

    def tuple_(self) -> Any:
        """`(x)` is x, `(x,)` and `(x, y)` are lists."""
        if self.take(")"):
            return []
        first = self.value()
        if self.take(")"):
            return first
        self.expect(",")
        return [first, *self.items(")", self.value)]

    def dict_or_set(self) -> Any:
        entries = self.items("}", self.entry)
        if entries and all(len(entry) == 1 for entry in entries):
            return [value for (value,) in entries]
        if not all(len(entry) == 2 for entry in entries):
            raise Unreadable("a dict has a key without a value")
        return {_key(key): value for key, value in entries}

    def entry(self) -> tuple[Any, ...]:
        """`key: value` of a dict, or a value of a set."""
        first = self.value()
        return (first, self.value()) if self.take(":") else (first,)


def _key(value: Any) -> str:
    """A dict's key as JSON spells it: a string, or a number or constant as one."""
    if isinstance(value, list | dict):
        raise Unreadable(f"{value!r} cannot be a key")
    return value if isinstance(value, str) else json.dumps(value)


def _finite(token: str) -> float:
    if not math.isfinite(value := float(token)):
        raise ValueError(f"{token} is too large a number")
    return value


def _refuse(token: str) -> Never:
    raise ValueError(f"{token} is no number")


_JSON: Final = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_refuse)
