"""The literals of Python and JSON, one at a time: where they end, and what they say."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Final

CONSTANTS: Final[Mapping[str, bool | None]] = {
    "True": True,
    "False": False,
    "None": None,
    "true": True,
    "false": False,
    "null": None,
}

WORD: Final = re.compile(r"[^\W\d]\w*")
# The beginning of a string: its prefix, and its quotes.
STRING: Final = re.compile(r"(?P<prefix>[rRuUfF]{0,2})(?P<quote>\"\"\"|'''|\"|')")
NUMBER: Final = re.compile(
    r"[+-]?(?:0[xX][\da-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w)", re.ASCII
)
# What a number can begin with: where text ends in it, more digits may come.
NUMBER_BEGUN: Final = re.compile(r"[+-]?[\d.][\w.]*(?:(?<=[eE])[+-]\d*)?|[+-]", re.ASCII)

# Up to the closing quotes; a backslash keeps the character behind it from closing.
_INSIDE: Final[Mapping[str, re.Pattern[str]]] = {
    quote: re.compile(rf"[^\\{quote[0]}]*(?:(?:\\.|(?!{quote}){quote[0]})[^\\{quote[0]}]*)*", re.DOTALL)
    for quote in ('"""', "'''", '"', "'")
}
_ESCAPE: Final = re.compile(
    r"\\(?:x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|N\{[^{}]+\}|[0-7]{1,3}|\r?\n|[\\'\"abfnrtv])", re.DOTALL
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


def string_end(text: str, start: int, quote: str) -> int | None:
    """Where the quotes stand that close a string whose content begins at `start`; None if they do not."""
    match = _INSIDE[quote].match(text, start)
    end = match.end() if match else start
    return end if text.startswith(quote, end) else None


def string_value(content: str, prefix: str) -> str:
    """What a string says; an unknown escape keeps its backslash. Raises ValueError for an f-string to be filled in."""
    prefix = prefix.lower()
    text = content if "r" in prefix else _ESCAPE.sub(_unescape, content)
    if "f" in prefix:
        if re.search(r"[{}]", re.sub(r"\{\{|\}\}", "", text)):
            raise ValueError("an f-string cannot be filled in")
        text = text.replace("{{", "{").replace("}}", "}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        # JSON writes a character beyond the first plane as a surrogate pair; half a pair is no character.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def number_value(token: str) -> int | float:
    """Raises ValueError for a number that is not finite."""
    digits = token.replace("_", "").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits.lstrip("+-")[:2])
    if base:
        return int(digits, base)
    if digits.lstrip("+-").isdigit():
        return int(digits)
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{token} is too large a number")
    return value


def _unescape(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code in _ESCAPED:
        return _ESCAPED[code]
    if code[0] == "N":
        try:
            return unicodedata.lookup(code[2:-1])
        except KeyError:
            return match[0]
    if code[0] in "xuU":
        if (point := int(code[1:], 16)) > sys.maxunicode:
            raise ValueError(f"{match[0]} is no character")
        return chr(point)
    return chr(int(code, 8)) if code[0].isdigit() else code
