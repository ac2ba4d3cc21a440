"""Writing a call, so that it reads back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from headrace.text.pythonic.literals import WORD

# A name as the reader takes one, or one of several words: nothing that ends a name, a call or a turn.
_NAME: Final = re.compile(r"[^\s()\[\]{}<>|,='\"`\x00-\x1f]+(?: [^\s()\[\]{}<>|,='\"`\x00-\x1f]+)*")


def is_name(text: object) -> bool:
    """Whether a tool can be called so."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def format_call(name: str, arguments: Mapping[str, Any]) -> str:
    """The call in the model's notation, such that `parse_calls` gives it back.

    Strings are JSON-escaped in double quotes; the `<` of sentinels and think tags goes by its code, so that no string
    ends its call or its turn. Keys that are no identifiers are written as `**{"the-key": 1}`. Raises ValueError for
    what is no name or no JSON value.
    """
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of a tool")
    try:
        written = [
            f"{key}={literal(value)}" if _is_word(key) else f"**{literal({key: value})}"
            for key, value in arguments.items()
        ]
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    return f"{name}({', '.join(written)})"


def _is_word(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and WORD.fullmatch(key) is not None


def literal(value: Any) -> str:
    """A JSON value in the model's notation."""
    match value:
        case str():
            return re.sub(r"<(?=\||/?think>)", r"\\u003c", json.dumps(value, ensure_ascii=False))
        case None | bool() | int():
            return repr(value)
        case float() if math.isfinite(value):
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(literal, value))}]"
        case Mapping() if all(isinstance(key, str) for key in value):
            return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    raise ValueError(f"{value!r} is no JSON value")
