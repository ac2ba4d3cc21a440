"""uvicorn, with what it leaves open: heads without end, connections without use, readers that do not read, and an
orderly end.

A connection answers one request after another. What a client sends that is no part of a request, or ahead of its turn,
or after it was refused, is bounded in time and size; it never goes into the middle of an answer.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headrace.server.wire import Limits

KEEP_ALIVE_S = 120  # idle: longer than clients keep a connection, which would use one that is just being closed
MOST_AHEAD = 8  # requests that a connection sends before they are due
LINGER_S = 2.0  # for a client that still sends what is not wanted: an end at once would cost it the answer
LONGEST_GRACE_S = 86400.0
UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n(?![ \t]))", re.IGNORECASE)


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol of a connection under these limits: uvicorn makes one for each by itself."""

    class Limited(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None  # of the head that is awaited, or of the end
        _stalled: asyncio.TimerHandle | None = None
        _head_bytes = 0
        _silent_bytes = 0  # that came since anything was recognised in them
        _discarded_bytes = 0
        _in_head = True
        _lingering = False
        _open: tuple[RequestResponseCycle, ...] = ()  # whose answers have not ended

        # --- the connection

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections and not self._close_an_idle_one():
                self._refuse(503, "Service Unavailable", "retry-after: 1\r\n")
                return
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            self.resume_writing()
            super().connection_lost(exc)
            for cycle in self._open:  # uvicorn tells the last one only
                cycle.disconnected = True
                cycle.message_event.set()

        def data_received(self, data: bytes) -> None:
            if self._lingering:
                self._discarded_bytes += len(data)
                if self._discarded_bytes > 2 * limits.body_bytes:
                    self.transport.close()
                return
            if self._timer is None and not self._busy:
                self._expect_head()
            self._silent_bytes += len(data)
            super().data_received(without_upgrade(data) if self._in_head else data)
            if self._silent_bytes > limits.header_bytes:
                self._refuse(431, "Request Header Fields Too Large")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self._stalled or self.loop.call_later(limits.stall_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled:
                self._stalled.cancel()
                self._stalled = None

        def shutdown(self) -> None:
            """The server ends: who has not said all yet may say it again elsewhere."""
            if self._busy and self.cycle.more_body and not self.pipeline and not self.cycle.response_started:
                self._refuse(503, "Service Unavailable", "retry-after: 1\r\n")
            else:
                super().shutdown()

        # --- what the parser finds

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head, self._head_bytes, self._silent_bytes = True, 0, 0
            self._expect_head()
            if len(self.pipeline) >= MOST_AHEAD:
                raise ValueError("too many requests at once")  # the parser passes errors on as an invalid request

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            if self._in_head:  # what follows a body is none of the headers that were checked
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._forget_timer()
            self._in_head, self._silent_bytes = False, 0
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before:
                self.cycle.transport = cast(Any, Ending(self.transport, self._end))
                self._open = (*(cycle for cycle in self._open if not cycle.response_complete), self.cycle)
                self.flow.resume_reading()  # or nobody would notice that the client has gone

        def on_chunk_header(self) -> None:
            self._silent_bytes = 0

        def on_body(self, body: bytes) -> None:
            self._silent_bytes = 0
            super().on_body(body)
            if self.pipeline and self.flow.read_paused:
                raise ValueError("too much of a request that is not due")

        def on_message_complete(self) -> None:
            self._in_head, self._silent_bytes = True, 0
            super().on_message_complete()

        def on_response_complete(self) -> None:
            if self.cycle.response_complete and self.cycle.more_body:
                self._end()  # nobody will read the rest of the request
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
            if self._head_bytes > limits.header_bytes:
                self._refuse(431, "Request Header Fields Too Large")
            else:
                self._refuse(400, "Bad Request")

        # --- what is done about it

        @property
        def _busy(self) -> bool:
            return any(not cycle.response_complete for cycle in self._open)

        @property
        def idle(self) -> bool:
            """Between two requests."""
            return self._timer is None and not self._busy

        def _close_an_idle_one(self) -> bool:
            """Another one: this one has not said anything yet either."""
            others = (one for one in self.connections if isinstance(one, Limited) and one is not self)
            if idle := next((one for one in others if one.idle), None):
                idle.transport.close()
            return idle is not None

        def _count(self, size: int) -> None:
            self._silent_bytes = 0
            self._head_bytes += size
            if self._head_bytes > limits.header_bytes:
                raise ValueError("the head is too large")

        def _expect_head(self) -> None:
            self._forget_timer()
            self._timer = self.loop.call_later(limits.header_s, self._refuse, 408, "Request Timeout")

        def _forget_timer(self) -> None:
            if self._timer:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: int, reason: str, more: str = "") -> None:
            """Not in the middle of an answer: then the connection's end has to do."""
            if self.transport.is_closing() or self._lingering:
                return
            if self._busy and not self.pipeline and self.cycle.more_body and not self.cycle.response_started:
                self.cycle.disconnected = True  # its request is the one that is refused
                self.cycle.message_event.set()
                self._open = ()
            if not self._busy:
                head = f"HTTP/1.1 {status} {reason}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n"
                self.transport.write(head.encode("ascii"))
                self._linger()
            else:
                self.transport.close()

        def _end(self) -> None:
            """After an answer that is the last of the connection."""
            if self.cycle.more_body:
                self._linger()
            else:
                self.transport.close()

        def _linger(self) -> None:
            if self._lingering or self.transport.is_closing():
                return
            self._lingering = True
            self.pipeline.clear()
            self._forget_timer()
            self.flow.resume_reading()
            self._timer = self.loop.call_later(LINGER_S, self.transport.close)
            self._say_that_was_all()

        def _say_that_was_all(self) -> None:
            """What is not sent yet would have asyncio say it later, where a client that has gone is an error."""
            if not self.transport.get_write_buffer_size():
                try:
                    self.transport.write_eof()
                except OSError:  # the client has reset the connection, and nobody has read of it yet
                    self.transport.abort()

    return Limited


def without_upgrade(data: bytes) -> bytes:
    """A head without its wish for another protocol, for which the parser would give up the request's body.

    Java's client has it in every request. A line that goes on in the next one is left as it is.
    """
    end = data.find(b"\r\n\r\n") + 2
    return UPGRADE.sub(b"", data[:end]) + data[end:] if end > 1 else data


@dataclass(frozen=True, slots=True)
class Ending:
    """A transport as an answer sees it, which closes it: in the way of the protocol."""

    transport: asyncio.Transport
    close: Callable[[], None]

    def write(self, data: bytes) -> None:
        """Nothing, once the client has gone: asyncio would warn of each piece until the answer hears of it."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def is_closing(self) -> bool:
        return self.transport.is_closing()


class Server(uvicorn.Server):
    """When it is told to end it lets requests go on for `grace_s` seconds, and then calls `hurry`, which ends them.

    A signal tells it to, and a second one ends the process at once.
    """

    def __init__(self, app: Any, limits: Limits, grace_s: float, hurry: Callable[[], object]) -> None:
        self._grace_s, self._hurry = min(grace_s, LONGEST_GRACE_S), hurry
        config = uvicorn.Config(
            app,
            http=protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(self._grace_s) + 5,
            backlog=2048,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later(self._grace_s, self._hurry)
        await super().shutdown(sockets)
        timer.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise them again afterwards, and the process would end by them, and not in order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
