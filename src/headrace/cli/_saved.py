"""A conversation in a file: JSON, with a version, written by `/save` and checked field by field when it is read."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from headrace.engine.parameters import Parameters
from headrace.errors import FileInvalid, RequestInvalid
from headrace.text.messages import plain_messages

VERSION: Final = 1  # under the key "headrace"
LARGEST_BYTES: Final = 64 * 2**20  # far more than any context window holds


@dataclass(frozen=True, slots=True)
class Conversation:
    """What such a file holds beside its version."""

    model: str
    tools: Literal["builtin"] | None
    system: str | None
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]


def is_saved(path: Path) -> bool:
    """Whether a file looks like JSON, which no model's file does."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:
        return False


def write(path: Path, conversation: Conversation) -> None:
    """Whole or not at all, for the user alone to read, over nothing but its like. Raises RequestInvalid."""
    if path.exists() and not is_saved(path):
        raise RequestInvalid(f"{path} exists and is no saved conversation: give another name")
    text = json.dumps({"headrace": VERSION} | asdict(conversation), indent=2, ensure_ascii=False)
    try:
        _replace(path, text.encode("utf-8", "replace") + b"\n")
    except OSError as error:
        raise RequestInvalid(f"{path} cannot be written: {error.strerror}") from None


def read(path: Path) -> Conversation:
    """Raises FileInvalid, which names the field that is not as `write` writes it."""
    values = _object(path)
    version = values.pop("headrace", None)
    if version != VERSION or isinstance(version, bool):
        raise FileInvalid(path, f"no conversation that this Headrace saved: its version is {version!r}, not {VERSION}")
    names = {field.name for field in fields(Conversation)}
    for name in sorted(names ^ values.keys()):
        raise FileInvalid(path, f"{name!r} is {'missing' if name in names else 'no field of a saved conversation'}")
    try:
        return check(Conversation(**values))
    except RequestInvalid as error:
        raise FileInvalid(path, str(error)) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FileInvalid(path, f"larger than {LARGEST_BYTES >> 20} MiB, so no saved conversation")
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise FileInvalid(path, f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise FileInvalid(path, "should hold a JSON object")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def check(found: Conversation) -> Conversation:
    """Raises RequestInvalid, which names the field that is not as a conversation has it."""
    _expect("model", found.model, isinstance(found.model, str) and found.model, "a model's name or path")
    _expect("tools", found.tools, found.tools in (None, "builtin"), '"builtin" or null')
    _expect("system", found.system, isinstance(found.system, str | None), "text or null")
    _expect("parameters", found.parameters, isinstance(found.parameters, dict), "an object")
    _expect("messages", found.messages, isinstance(found.messages, list), "a list")
    Parameters().override(**found.parameters)
    for place, message in enumerate(plain_messages(found.messages) if found.messages else [], 1):
        check_message(message, f"message {place}")
    return found


def check_message(message: dict[str, Any], what: str) -> None:
    """Raises RequestInvalid for what is no message of a user, a model or a tool; `what` is how it is called."""
    role, content = message["role"], message.get("content")
    _expect(f"the role of {what}", role, role in ("user", "assistant", "tool"), "user, assistant or tool")
    _expect(f"the content of {what}", content, isinstance(content, str), "text")
    for call in message.get("tool_calls", []):
        match call:
            case {"function": {"name": str(), "arguments": dict()}}:
                continue
        raise RequestInvalid(f"a tool call of {what} should have a function with a name and arguments")


def _expect(what: str, value: Any, fits: Any, expected: str) -> None:
    if not fits:
        raise RequestInvalid(f"{what} is {json.dumps(value, ensure_ascii=False)[:40]} but should be {expected}")


def _replace(path: Path, content: bytes) -> None:
    """Into place at once: an interruption leaves the former file."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
