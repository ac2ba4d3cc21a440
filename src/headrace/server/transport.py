"""uvicorn, with what it leaves open: how long a request's head may take and how large it may be, and an orderly end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.server.wire import Limits


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol of a connection under these limits: uvicorn makes one for each by itself."""

    class Limited(HttpToolsProtocol):
        _head_timer: asyncio.TimerHandle | None = None
        _head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_timer()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_bytes = 0
            self._expect_head()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._forget_timer()
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            if self._head_bytes > limits.header_bytes:
                self._refuse(431, "Request Header Fields Too Large")
            else:
                super().send_400_response(msg)

        def _count(self, size: int) -> None:
            self._head_bytes += size
            if self._head_bytes > limits.header_bytes:
                raise ValueError("the head is too large")  # which the parser passes on as an invalid request

        def _expect_head(self) -> None:
            self._forget_timer()
            self._head_timer = self.loop.call_later(limits.header_s, self._refuse, 408, "Request Timeout")

        def _forget_timer(self) -> None:
            if self._head_timer:
                self._head_timer.cancel()
                self._head_timer = None

        def _refuse(self, status: int, reason: str) -> None:
            if not self.transport.is_closing():
                head = f"HTTP/1.1 {status} {reason}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                self.transport.write(head.encode("ascii"))
                self.transport.close()

    return Limited


class Server(uvicorn.Server):
    """When it is told to end it lets requests go on for `grace_s` seconds, and then calls `hurry`, which ends them."""

    def __init__(self, app: Any, limits: Limits, grace_s: float, hurry: Callable[[], object]) -> None:
        config = uvicorn.Config(
            app,
            http=protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=int(grace_s) + 5,
            backlog=2048,
        )
        super().__init__(config)
        self._grace_s, self._hurry = grace_s, hurry

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later(self._grace_s, self._hurry)
        await super().shutdown(sockets)
        timer.cancel()
