"""Messages at the door: plain JSON data with known shapes, or a sentence that says what is wrong.

A chat template sees nothing but str, int, float, bool, None, list, tuple and dict, as under transformers: objects with
methods of their own would be a way out of the sandbox.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from typing import Any, Final

from headrace.errors import RequestInvalid

# Templates print the role between sentinels, so it must be a word.
_ROLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Names under which a turn's thinking arrives; the first is the one that templates read.
THINKING: Final = ("reasoning_content", "thinking", "reasoning")


def plain_messages(messages: object) -> list[dict[str, Any]]:
    """Checked copies of chat messages: keys that hold None left out and thinking under each of its names.

    Raises RequestInvalid, naming the message by its place from 1.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise RequestInvalid(
            "messages is not a list with at least one message: expected [{'role': ..., 'content': ...}]"
        )
    return [_plain_message(message, f"message {place}") for place, message in enumerate(messages, 1)]


def _plain_message(message: object, what: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RequestInvalid(f"{what} is a {type(message).__name__}: expected an object with role and content")
    copy = {key: value for key, value in plain(message, what).items() if value is not None}
    role = copy.get("role")
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise RequestInvalid(f"{what} has the role {role!r}: expected system, user, assistant or tool")
    calls = copy.get("tool_calls", [])
    if not isinstance(calls, list | tuple) or not all(isinstance(call, dict) for call in calls):
        raise RequestInvalid(f"{what}: tool_calls is not a list of objects")
    thinking = next((copy[key] for key in THINKING if key in copy), None)
    return copy if thinking is None else {"thinking": thinking, **copy, "reasoning_content": thinking}


def plain_tools(tools: object) -> list[Any] | None:
    """Checked copies of tools, each a JSON object as the user gave it or a string; None stays None."""
    if tools is None:
        return None
    if not isinstance(tools, list | tuple):
        raise RequestInvalid(f"tools is a {type(tools).__name__}: expected a list of tools")
    for place, tool in enumerate(tools, 1):
        if not isinstance(tool, Mapping | str):
            raise RequestInvalid(f"tool {place} is a {type(tool).__name__}: expected an object with a name")
    return [plain(tool, f"tool {place}") for place, tool in enumerate(tools, 1)]


def plain(value: Any, what: str) -> Any:
    """A copy of `value` out of exact JSON types (and tuples); `what` is the thing that errors name."""
    try:
        return _plain(value, what)
    except RecursionError as problem:
        raise RequestInvalid(f"{what} is nested too deeply") from problem


def _plain(value: Any, what: str) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case Mapping():
            return {_plain(key, what): _plain(item, what) for key, item in value.items()}
        case list():
            return [_plain(item, what) for item in value]
        case tuple():
            return tuple(_plain(item, what) for item in value)
    raise RequestInvalid(f"{what} holds a {type(value).__name__}: expected JSON values only")
