"""From the bytes of a request to a typed one, within limits; whatever is wrong is said by the name of its field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec

from headrace.errors import FieldRefused, RequestInvalid, TooLarge, TooSlow
from headrace.machine import format_bytes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request."""

    body_bytes: int = 32 << 20
    body_s: float = 60.0  # from its first byte to its last
    form_bytes: int = 256 << 10  # of a schema, a grammar, or the tools together
    depth: int = 64  # of lists and objects within each other
    header_bytes: int = 32 << 10
    header_s: float = 10.0


class Fields(msgspec.Struct, kw_only=True):
    """A request's body. Those of its `ignored` fields that are there change nothing in the answer; what else it does
    not know is refused by name, for it might. `refused` says why, where there is something to say."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, str]] = {}


T = TypeVar("T", bound=Fields)


class Gone(Exception):
    """The client went away before it had said all."""


async def read_body(receive: Receive, headers: Mapping[str, str], limits: Limits) -> bytes:
    """Raises TooLarge, TooSlow, Gone."""
    said = headers.get("content-length", "")
    if said.isdecimal() and int(said) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {limits.body_s:g} seconds") from None
    return bytes(body)


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"the body is larger than {format_bytes(limits.body_bytes)}, which is the most that is taken")


def decode(body: bytes, kind: type[T], limits: Limits) -> T:
    """Raises RequestInvalid, with what is wrong and where."""
    value = decode_json(body, limits)
    if not isinstance(value, dict):
        raise RequestInvalid("the body should be a JSON object")
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    for name, given in value.items():
        if name in known or name in kind.ignored or given is None:
            continue
        why = kind.refused.get(name, "it is not supported here, and would change the answer")
        raise FieldRefused(f"{name}: {why}", name, name in kind.refused)
    # What is null is as if it were not there.
    return convert({name: given for name, given in value.items() if given is not None}, kind)


def decode_json(body: bytes, limits: Limits) -> Any:
    if not body.strip():
        raise RequestInvalid("missing request body")
    try:
        body.decode()
        value = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise RequestInvalid(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except msgspec.DecodeError as error:
        raise RequestInvalid(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep(limits) from None
    check_depth(value, limits)
    return value


def convert(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _said(str(error)) from None


def _said(error: str) -> RequestInvalid:
    """msgspec's "Expected `int`, got `str` - at `$.seed`" with the field in front."""
    found = re.fullmatch(r"(.*?) - at `(?:key in )?\$\.?(.*)`", error)
    sentence, where = (found[1], found[2].replace("...", "")) if found else (error, "")
    sentence = sentence.replace("Object missing required field", "missing field")
    sentence = f"{where}: {sentence[0].lower()}{sentence[1:]}" if where else sentence
    if unknown := re.search(r"object contains unknown field `(.*)`", sentence, re.IGNORECASE):
        name = f"{where}.{unknown[1]}"
        return FieldRefused(f"{name}: it is not supported here, and would change the answer", name, known=False)
    missing = re.search(r"missing field `(.*)`", sentence)
    return RequestInvalid(sentence, ".".join(part for part in (where, missing and missing[1]) if part) or None)


def check_depth(value: Any, limits: Limits) -> None:
    """Level by level: what is nested deeper than Python's stack must not reach code that recurses."""
    level = [value]
    for _ in range(limits.depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep(limits)


def _too_deep(limits: Limits) -> RequestInvalid:
    return RequestInvalid(f"the body is nested deeper than {limits.depth} levels")


def check_form(name: str, form: Any, limits: Limits) -> None:
    """Raises TooLarge for a schema or grammar that would take too long to read."""
    if form is not None and len(msgspec.json.encode(form)) > limits.form_bytes:
        raise TooLarge(f"{name} is larger than {format_bytes(limits.form_bytes)}, which is the most that is taken")
