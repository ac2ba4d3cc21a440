"""A conversation in a file: JSON, with a version, written by `/save` and checked field by field when it is read."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from headrace.engine.request import Parameters
from headrace.errors import FileInvalid, RequestInvalid
from headrace.text.messages import plain_messages

KIND: Final = "conversation"
VERSION: Final = 1
LARGEST_BYTES: Final = 64 * 2**20  # far more than any context window holds


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a file holds, beside `headrace` (its kind) and `version`."""

    model: str
    num_ctx: int | None
    system: str
    format: str | None
    parameters: Mapping[str, Any]
    messages: list[dict[str, Any]]


def write(path: Path, conversation: Conversation) -> None:
    """Writes the file whole or not at all; writes over nothing but such a file. Raises RequestInvalid."""
    if path.exists() and not is_saved(path):
        raise RequestInvalid(f"{path} exists and is no saved conversation: give another name")
    text = json.dumps({"headrace": KIND, "version": VERSION} | asdict(conversation), indent=2, ensure_ascii=False)
    try:
        _replace(path, text.encode("utf-8", "surrogatepass") + b"\n")
    except OSError as error:
        raise RequestInvalid(f"{path} cannot be written: {error.strerror}") from None


def is_saved(path: Path) -> bool:
    """Whether a file looks like JSON, which no model's file does."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:
        return False


def read(path: Path) -> Conversation:
    """Raises FileInvalid, which names the field that is not as `write` writes it."""
    values = _object(path)
    if values.pop("headrace", None) != KIND:
        raise FileInvalid(path, 'no saved conversation: it lacks "headrace": "conversation"')
    if (version := values.pop("version", None)) != VERSION or isinstance(version, bool):
        raise FileInvalid(path, f"its version is {version!r}, but this Headrace reads version {VERSION}")
    names = {field.name for field in fields(Conversation)}
    if wrong := names ^ values.keys():
        raise FileInvalid(path, f"{min(wrong)!r} is {'missing' if min(wrong) in names else 'no field of it'}")
    try:
        return _checked(values)
    except RequestInvalid as error:
        raise FileInvalid(path, str(error)) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise FileInvalid(path, f"larger than {LARGEST_BYTES >> 20} MiB, so no saved conversation")
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise FileInvalid(path, f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise FileInvalid(path, "should hold a JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _checked(values: dict[str, Any]) -> Conversation:
    _expect("model", values["model"], isinstance(values["model"], str) and values["model"], "a name or a path")
    _expect("num_ctx", values["num_ctx"], _is_window(values["num_ctx"]), "a number of tokens or null")
    _expect("system", values["system"], isinstance(values["system"], str), "text")
    _expect("format", values["format"], values["format"] in (None, "json"), '"json" or null')
    _expect("parameters", values["parameters"], isinstance(values["parameters"], dict), "an object")
    Parameters().override(**values["parameters"])
    messages = plain_messages(values["messages"]) if values["messages"] != [] else []
    for place, message in enumerate(messages, 1):
        _check_message(message, f"message {place}")
    return Conversation(**values | {"messages": messages})


def _is_window(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _check_message(message: dict[str, Any], what: str) -> None:
    _expect(f"the role of {what}", message["role"], message["role"] in ("user", "assistant", "tool"), "user, ...")
    _expect(f"the content of {what}", message.get("content"), isinstance(message.get("content"), str), "text")
    for call in message.get("tool_calls", []):
        function = call.get("function")
        fits = isinstance(function, dict) and isinstance(function.get("name"), str)
        fits = fits and isinstance(function.get("arguments"), dict)
        _expect(f"a tool call of {what}", call, fits, "a function with name and arguments")


def _expect(what: str, value: Any, fits: Any, expected: str) -> None:
    if not fits:
        raise RequestInvalid(f"{what} is {json.dumps(value, ensure_ascii=False)[:40]} but should be {expected}")


def _replace(path: Path, content: bytes) -> None:
    """Into place at once: an interruption leaves the former file. The user alone may read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
