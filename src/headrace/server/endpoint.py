"""One route: the body is read, the dialect's function answers, and a client that goes away ends its work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from headrace.errors import OUTCOMES, Busy, HeadraceError
from headrace.library.models import Library
from headrace.library.registry.client import DEFAULTS, Options
from headrace.server.guard import is_near
from headrace.server.log import note
from headrace.server.serving import Serving
from headrace.server.shelf import Shelf, Shelved
from headrace.server.wire import Body, Fields, Gone, Intake, Limits, decode, read_body
from headrace.server.works import Works

_log = logging.getLogger("headrace.server")

JSON = "application/json"
BODIED = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BODIES = 8  # of the largest size, in memory at a time
RETRY_AFTER_S = 1
CLOSE = MappingProxyType({"connection": "close"})  # what follows of the request is not read
INTERNAL = "something went wrong inside Headrace: its log says what"

T = TypeVar("T", bound=Fields)


@dataclass(frozen=True, slots=True)
class House:
    """What every route needs of the server."""

    serving: Serving
    shelf: Shelf
    limits: Limits = field(default_factory=Limits)
    log_prompts: bool = False
    num_ctx: int | None = None  # the window of each model, where it is not its own
    intake: Intake = field(default_factory=lambda: Intake(BODIES * Limits().body_bytes))
    library: Library = field(default_factory=Library.here)  # which its routes change
    registries: Options = DEFAULTS  # how they are reached
    works: Works = field(default_factory=Works)

    def go_down(self) -> None:
        """Ends what runs or waits, with an error that says so."""
        self.serving.go_down()
        self.works.go_down()

    def close(self) -> bool:
        """Blocks until all has ended. False: some thread has not."""
        works_ended = self.works.close()
        return self.serving.close() and works_ended


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Reply:
        return cls(msgspec.json.encode(value), status)


@dataclass(frozen=True, slots=True)
class Stream:
    """`pieces` as they come. `last_words` says an error in the middle of them, where the status has been sent."""

    media_type: str
    pieces: AsyncIterator[bytes]
    last_words: Callable[[HeadraceError], bytes]


class Dialect(Protocol):
    """How an API says that something went wrong."""

    def refuse(self, error: HeadraceError) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request beside its body."""

    house: House
    scope: Scope

    @property
    def headers(self) -> Headers:
        return Headers(scope=self.scope)

    @property
    def is_near(self) -> bool:
        """Whether it comes from this machine."""
        return is_near(self.scope)

    def model(self, name: str) -> Shelved:
        """The model of this name, which the log then tells. Raises ModelNotFound."""
        found = self.house.shelf.find(name)
        note(self.scope, model=found.name)
        return found

    def path(self, name: str) -> str:
        return str(self.scope["path_params"][name])

    def query(self, name: str) -> str | None:
        return QueryParams(self.scope["query_string"]).get(name)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """An ASGI application for one route. The request's body is read and checked as its `kind`."""

    house: House
    dialect: Dialect
    handle: Callable[[Call, T], Awaitable[Reply | Stream]]
    kind: type[T]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self.house, scope)
        with self.house.intake.counted() as take:
            try:
                body = await self._body(call, receive, take)
            except Gone:
                return
            except HeadraceError as error:
                await _send(send, self.dialect.refuse(error), CLOSE)
                return
            await self._answer(call, body, receive, send)

    async def _body(self, call: Call, receive: Receive, take: Callable[[int], None]) -> bytes:
        if call.scope["method"] not in BODIED:
            return b"{}"
        return await read_body(receive, call.headers, self.house.limits, take)

    async def _answer(self, call: Call, body: bytes, receive: Receive, send: Send) -> None:
        """Until it is answered, or nobody is there to read it."""
        work = asyncio.ensure_future(self._respond(call, body, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                note(call.scope, gone=True)
            work.cancel()  # a work that is done does not mind
            with suppress(asyncio.CancelledError):
                await work
        finally:
            gone.cancel()
            work.cancel()

    async def _respond(self, call: Call, body: bytes, send: Send) -> None:
        try:
            reply = await self.handle(call, decode(body, self.kind, self.house.limits))
            if isinstance(reply, Stream):
                await self._stream(reply, send)
                return
        except Exception as error:
            reply = self.dialect.refuse(_ours(error))
        await _send(send, reply)

    async def _stream(self, stream: Stream, send: Send) -> None:
        """The status is that of the first piece: an error before it has its own."""
        async with aclosing(stream.pieces) as pieces:  # type: ignore[type-var]
            first = await anext(pieces, b"")
            await _start(send, 200, stream.media_type, {"cache-control": "no-cache", "x-accel-buffering": "no"})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            try:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                last = b""
            except Exception as error:
                last = stream.last_words(_ours(error))
            await send({"type": "http.response.body", "body": last})


@dataclass(frozen=True, slots=True)
class Inlet:
    """An ASGI application for one route whose body is of any size, and no JSON: `handle` takes it piece by piece."""

    house: House
    dialect: Dialect
    handle: Callable[[Call, Body], Awaitable[Reply]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, body = Call(self.house, scope), Body(receive, self.house.limits.stall_s)
        try:
            reply = await self.handle(call, body)
        except Gone:
            note(scope, gone=True)
            return
        except Exception as error:
            reply = self.dialect.refuse(_ours(error))
        await _send(send, reply, {} if body.is_over else CLOSE)


def _ours(error: Exception) -> HeadraceError:
    """What of an error may be said: what is not one of ours goes into the log alone."""
    if isinstance(error, HeadraceError):
        return error
    _log.error(INTERNAL, exc_info=error)
    return HeadraceError(INTERNAL)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, reply: Reply, more: Mapping[str, str] = MappingProxyType({})) -> None:
    headers = {**reply.headers, **more, "content-length": str(len(reply.body))}
    if reply.status == OUTCOMES[Busy].http_status:
        headers["retry-after"] = str(RETRY_AFTER_S)
    await _start(send, reply.status, reply.media_type, headers)
    await send({"type": "http.response.body", "body": reply.body})


async def _start(send: Send, status: int, media_type: str, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    kind = (b"content-type", media_type.encode("latin-1"))
    await send({"type": "http.response.start", "status": status, "headers": [kind, *raw]})
