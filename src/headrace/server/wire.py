"""From the bytes of a request to a typed one, within limits; whatever is wrong is said by the name of its field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

import msgspec

from headrace.errors import Busy, FieldRefused, RequestInvalid, TooLarge, TooSlow
from headrace.machine import format_bytes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request, and of all connections."""

    body_bytes: int = 32 << 20
    body_s: float = 60.0  # from its first byte to its last
    items: int = 1_000_000  # commas and brackets: each costs far more memory than the byte that it is
    form_bytes: int = 256 << 10  # of a schema, a grammar, or the tools together
    template_bytes: int = 32 << 10  # of a template that a request brings: it is compiled for that request alone
    depth: int = 64  # of lists and objects within each other
    header_bytes: int = 32 << 10
    header_s: float = 10.0
    stall_s: float = 60.0  # that a client may take nothing of an answer that waits for it
    connections: int = 4000


class Fields(msgspec.Struct, kw_only=True):
    """A request's body. Those of its `ignored` fields that are there change nothing in the answer; what else it does
    not know is refused by name, for it might. `refused` says why, where there is something to say."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, str]] = {}


T = TypeVar("T", bound=Fields)


class Gone(Exception):
    """The client went away before it had said all."""


@dataclass(eq=False, slots=True)
class Intake:
    """The bodies of all requests that are being read or answered, together."""

    most_bytes: int
    taken: int = 0

    @contextmanager
    def counted(self) -> Iterator[Callable[[int], None]]:
        """What it gives is told of so many bytes more of a request, for as long as the block lasts. Raises Busy."""
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.taken + count > self.most_bytes:
                raise Busy("other requests have large bodies: try again later")
            mine += count
            self.taken += count

        try:
            yield take
        finally:
            self.taken -= mine


SLOWEST_BYTES = 64 << 10  # of a body without end, within `Limits.stall_s`


class Body:
    """What comes of a request's body, piece by piece, whatever its size."""

    def __init__(self, receive: Receive, stall_s: float) -> None:
        self._receive, self._stall_s = receive, stall_s
        self.is_over = False

    async def piece(self) -> bytes:
        """What follows: SLOWEST_BYTES at least, unless it is the last; b"" at the end. Raises TooSlow, Gone."""
        piece = bytearray()
        try:
            async with asyncio.timeout(self._stall_s):
                while not self.is_over and len(piece) < SLOWEST_BYTES:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    piece += message.get("body", b"")
                    self.is_over = not message.get("more_body", False)
        except TimeoutError:
            least = format_bytes(SLOWEST_BYTES)
            raise TooSlow(f"less than {least} of the body arrived within {self._stall_s:g} seconds") from None
        return bytes(piece)


def has_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def read_body(
    receive: Receive, headers: Mapping[str, str], limits: Limits, take: Callable[[int], None] = lambda _: None
) -> bytes:
    """`take` is told what comes. Raises TooLarge, TooSlow, Gone, and what `take` does."""
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
                piece = message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) + len(piece) > limits.body_bytes:
                    raise _too_large(limits)
                take(len(piece))
                body += piece
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
        why = kind.refused.get(name) or _unknown(name, known)
        raise FieldRefused(f"{name}: {why}", name, name in kind.refused)
    # What is null is as if it were not there.
    return convert({name: given for name, given in value.items() if given is not None}, kind)


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return "it is not supported here, and would change the answer" + (f": did you mean {near[0]}?" if near else "")


def decode_json(body: bytes, limits: Limits) -> Any:
    if not body.strip():
        raise RequestInvalid("missing request body")
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.items:  # in its texts, too: no window holds so long a one
        raise TooLarge(f"the body has more than {limits.items} commas and brackets, which is the most that is taken")
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
    if form is not None:
        _check_size(name, len(msgspec.json.encode(form)), limits.form_bytes)


def check_template(name: str, source: str | None, limits: Limits) -> None:
    """Raises TooLarge for a template that would take too long to compile."""
    _check_size(name, len((source or "").encode()), limits.template_bytes)


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise TooLarge(f"{name} is larger than {format_bytes(most)}, which is the most that is taken")
