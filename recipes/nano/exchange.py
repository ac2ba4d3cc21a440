"""One exchange of a dialogue: what the user says, the calls that it needs and what they returned, and the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A number written as the user wrote it: 2.50 stays 2.50."""

    text: str


Argument = str | int | float | bool | list[str | Number] | Number


@dataclass(frozen=True, slots=True)
class Call:
    """A call and the text that its tool turn holds."""

    name: str
    arguments: dict[str, Argument]
    result: str

    def text(self) -> str:
        """`name(a="x", n=1)`: strings as JSON strings, numbers bare."""
        return f"{self.name}({', '.join(f'{key}={_value(value)}' for key, value in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Exchange:
    """`calls` are made in one turn; `number` is what "that" means in the user's next sentence."""

    user: str
    answer: str
    calls: tuple[Call, ...] = ()
    number: str = ""


def _value(value: Argument) -> str:
    """As `headrace.text` writes calls: Python's True and False, strings as JSON."""
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)
