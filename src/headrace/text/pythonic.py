"""Tool calls in Python's notation, as models of the family write them: `[f(a="x", n=1), g()]`.

A reader of its own, not `ast`: it takes Python's reserved words as argument names and JSON's constants as values, and
no text that a model can write makes it recurse without end.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")
_CONSTANTS: Final[Mapping[str, bool | None]] = {
    "True": True,
    "False": False,
    "None": None,
    "true": True,
    "false": False,
    "null": None,
}
_MAX_DEPTH: Final = 64

_TOKEN: Final = re.compile(
    r"""
    (?P<name>   [^\W\d]\w*(?:\.[^\W\d]\w*)* )
  | (?P<number> [+-]?(?:0[xX][\da-fA-F]+|(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?) )
  | (?P<string> \"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*' )
  | (?P<mark>   \*\*|[\[\](){},=:] )
  | (?P<end>    \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\(?:x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{1,3}|\r?\n|[\\'\"abfnrtv])", re.DOTALL
)
_ESCAPED: Final[Mapping[str, str]] = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\n": "",
    "\r\n": "",
}


def format_call(name: str, arguments: Mapping[str, Any]) -> str:
    """The call in the model's notation, such that `parse_calls` gives it back.

    Strings are JSON-escaped in double quotes (the sentinels' `<|` by its code, so that no string ends its call);
    keys that are no identifiers are written as `**{"the-key": 1}`. Raises ValueError for what is no JSON value.
    """
    written = [
        f"{key}={_literal(value)}" if _IDENTIFIER.fullmatch(key) else f"**{_literal({key: value})}"
        for key, value in arguments.items()
    ]
    return f"{name}({', '.join(written)})"


def _literal(value: Any) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("<|", "\\u003c|")
        case None | bool() | int():
            return repr(value)
        case float() if math.isfinite(value):
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case Mapping() if all(isinstance(key, str) for key in value):
            return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    raise ValueError(f"{value!r} is no JSON value")


def parse_calls(body: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls in `body`: `[f(a="x"), g()]`, or the same without its brackets.

    Names may be dotted, arguments are by keyword (any word, Python's own included) or in `**{...}` and keep their
    order. Values: strings in either quote with Python's escapes, numbers, True/False/None and true/false/null, lists,
    dicts; tuples and sets become lists. Raises ValueError with what was expected and where.
    """
    return _Reader(body).calls()


@dataclass(slots=True)
class _Reader:
    """Recursive descent over the tokens of a call list."""

    text: str
    at: int = 0
    kind: str = ""
    token: str = ""
    depth: int = 0

    def __post_init__(self) -> None:
        self.advance()

    def advance(self) -> str:
        """Move to the next token; the one that was left."""
        left = self.token
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        if (match := _TOKEN.match(self.text, self.at)) is None:
            raise ValueError(f"unexpected {self.text[self.at]!r} at character {self.at}")
        self.kind, self.token, self.at = str(match.lastgroup), match[0], match.end()
        return left

    def take(self, mark: str) -> bool:
        """Step over `mark` if it comes next."""
        if found := self.kind == "mark" and self.token == mark:
            self.advance()
        return found

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.expected(mark)

    def expected(self, what: str) -> ValueError:
        return ValueError(f"expected {what} before character {self.at}, found {self.token!r}")

    def name(self) -> str:
        if self.kind != "name":
            raise self.expected("a name")
        return self.advance()

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        bracket = self.take("[")
        calls = self.items("]", self.call) if bracket else [self.call()]
        while not bracket and self.take(","):
            calls.append(self.call())
        if self.kind != "end" or not calls:
            raise self.expected("the end" if calls else "a call")
        return calls

    def call(self) -> tuple[str, dict[str, Any]]:
        name, arguments = self.name(), dict[str, Any]()
        self.expect("(")
        for given in self.items(")", self.argument):
            if repeated := arguments.keys() & given.keys():
                raise ValueError(f"the argument {min(repeated)!r} is given twice")
            arguments |= given
        return name, arguments

    def argument(self) -> dict[str, Any]:
        if self.take("**"):
            self.expect("{")
            return self.mapping(self.items("}", self.entry))
        name = self.name()
        self.expect("=")
        return {name: self.value()}

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
        kind, token = self.kind, self.token
        if kind == "mark" and token in ("[", "(", "{"):
            return self.nested(token)
        if kind == "name" and token in _CONSTANTS:
            value: Any = _CONSTANTS[token]
        elif kind == "number":
            value = _number(token)
        elif kind == "string":
            value = _string(token)
        else:
            raise self.expected("a value")
        self.advance()
        return value

    def nested(self, bracket: str) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"values are nested more than {_MAX_DEPTH} deep")
        self.expect(bracket)
        inside = {"[": self.list_, "(": self.tuple_, "{": self.dict_or_set}[bracket]()
        self.depth -= 1
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
        return self.mapping(entries)

    def entry(self) -> tuple[Any, ...]:
        """`key: value` of a dict, or a value of a set."""
        first = self.value()
        return (first, self.value()) if self.take(":") else (first,)

    def mapping(self, entries: list[tuple[Any, ...]]) -> dict[str, Any]:
        if not all(len(entry) == 2 for entry in entries):
            raise ValueError("a dict has a key without a value")
        return {_key(key): value for key, value in entries}


def _key(value: Any) -> str:
    """A dict's key as JSON spells it: a string, or a number or constant as one."""
    if isinstance(value, list | dict):
        raise ValueError(f"{value!r} cannot be a key")
    return value if isinstance(value, str) else json.dumps(value)


def _number(token: str) -> int | float:
    digits = token.replace("_", "").lower()
    if "x" in digits:
        return int(digits, 16)
    if digits.lstrip("+-").isdigit():
        return int(digits)
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{token} is too large a number")
    return value


def _string(token: str) -> str:
    width = 3 if token[:3] in ('"""', "'''") else 1
    text = _ESCAPE.sub(_unescape, token[width:-width])
    if any("\ud800" <= character <= "\udfff" for character in text):
        # JSON writes a character beyond the first plane as a surrogate pair; half a pair is no character.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _unescape(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code in _ESCAPED:
        return _ESCAPED[code]
    if code[0] in "xuU":
        if (point := int(code[1:], 16)) > sys.maxunicode:
            raise ValueError(f"{match[0]} is no character")
        return chr(point)
    return chr(int(code, 8)) if code[0].isdigit() else code
