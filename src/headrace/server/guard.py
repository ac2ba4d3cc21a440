"""Who may ask: hosts and origins that browsers name, and keys with scopes."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.errors import Forbidden, HeadraceError, KeyMissing, RequestInvalid
from headrace.keys import SCOPES, Key, Permission
from headrace.server.wire import has_body

# Those of Ollama's API that change what the server has; every other route is for who may infer.
MANAGING = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs")
CLOSE: Sequence[tuple[bytes, bytes]] = [(b"connection", b"close")]
OPEN = frozenset({"/", "/health", "/api/version"})  # say nothing that needs a key
# Programs with a window of their own, and pages that this machine serves.
APP_SCHEMES = frozenset({"app", "tauri", "vscode-webview", "vscode-file"})
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


@dataclass(frozen=True, slots=True)
class Doors:
    """`keys` that are known: none lets everybody in. `hosts` and `origins` are let in beside the local ones."""

    keys: Sequence[Key] = ()
    hosts: Collection[str] = frozenset()
    origins: Collection[str] = frozenset()

    @classmethod
    def of(cls, keys: Sequence[Key], hosts: Iterable[str], origins: Iterable[str]) -> Doors:
        """From what a user wrote. Raises RequestInvalid for what would let in nobody, or everybody."""
        if not all(key.secret.strip() for key in keys):
            raise RequestInvalid("a key is empty: leave out --api-key, or give one that nobody can guess")
        if scope := next((key.secret for key in keys if key.secret in SCOPES), None):
            raise RequestInvalid(f"a key is {scope!r}, the name of a scope: write it behind its key, KEY:{scope}")
        return cls(tuple(keys), frozenset(map(_named_host, hosts)), frozenset(map(_named_origin, origins)))


def _named_host(name: str) -> str:
    host = _host_of(name)
    if not host or "*" in name:
        raise RequestInvalid(f"--allow-host is {name!r} but should be a name, such as models.example.org")
    return host


def _named_origin(name: str) -> str:
    try:
        parts = urlsplit(name.lower())
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if not parts.scheme or not parts.netloc or "*" in name:
        raise RequestInvalid(f"--allow-origin is {name!r} but should be one origin, such as https://app.example.org")
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, keys: Sequence[Key], insecure: bool) -> None:
    """Raises RequestInvalid where anybody in the network could ask."""
    if not is_loopback(host) and not keys and not insecure:
        raise RequestInvalid(
            f"{host} can be reached from other machines: give a key with --api-key or --api-key-file, "
            "listen on 127.0.0.1, or say --insecure"
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """An ASGI application before another one. `refuse` answers in the dialect of the path."""

    app: ASGIApp
    doors: Doors
    refuse: Callable[[Scope, HeadraceError], ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check_host(headers)
            if origin is not None:
                self._check_origin(origin, headers.get("host", ""))
                allowed = origin.encode("latin-1")
                send = _with_headers(send, [(b"access-control-allow-origin", allowed), (b"vary", b"Origin")])
                if scope["method"] == "OPTIONS":
                    await _preflight(headers, send)
                    return
            self._check_key(scope, headers)
        except HeadraceError as error:
            closing = _with_headers(send, CLOSE) if has_body(headers) else send  # which is not read
            await self.refuse(scope, error)(scope, receive, closing)
            return
        await self.app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """A page whose name was made to mean this machine names itself. An address cannot be such a name, and who has
        a key is no page."""
        if len(headers.getlist("host")) > 1:
            raise RequestInvalid("the request names more than one host")
        if self.doors.keys:
            return
        host = _host_of(headers.get("host", ""))
        if host in self.doors.hosts or host in LOCAL_NAMES or _is_address(host) or host.endswith(".localhost"):
            return
        own = socket.gethostname().lower()
        if host in (own, f"{own}.local"):
            return
        raise Forbidden(f"the host {host!r} is not one that this server answers to: allow it with --allow-host")

    def _check_origin(self, origin: str, host: str) -> None:
        if origin.lower() in self.doors.origins:
            return
        try:
            parts = urlsplit(origin)
            local = parts.scheme in ("http", "https") and (parts.hostname or "") in LOCAL_NAMES
        except ValueError:  # brackets that are no address
            parts, local = SplitResult("", "", "", "", ""), False
        if local or parts.scheme in APP_SCHEMES or (host and parts.netloc == host):
            return
        raise Forbidden(f"pages of {origin[:100]!r} may not ask this server: allow them with --allow-origin")

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        needed: Permission = "manage" if path.startswith(MANAGING) else "infer"
        if not self.doors.keys:
            _check_near(scope, needed)
            return
        if path in OPEN:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if not given:
            raise KeyMissing("this server wants a key: send it as `Authorization: Bearer KEY`")
        # All of them are compared, each in constant time, whatever their length: how long it takes says nothing.
        digest = _digest(given.encode("latin-1"))
        found = [key for key in self.doors.keys if hmac.compare_digest(_digest(key.secret.encode()), digest)]
        if not found:
            raise KeyMissing("this server does not know the key")
        if not any(needed in key.scopes for key in found):
            raise Forbidden(f"the key does not have the scope {needed!r}")


def _check_near(scope: Scope, needed: Permission) -> None:
    """To let others ask is not to let them fill the disk, or empty it."""
    if needed == "manage" and not is_near(scope):
        raise Forbidden(
            "models are pulled, made and deleted from this machine alone, unless the server has a key: start it with "
            "--api-key KEY, or --api-key KEY:manage"
        )


def is_near(scope: Scope) -> bool:
    """Whether a request comes from this machine."""
    client = scope.get("client")
    return client is None or is_loopback(client[0])


def _digest(secret: bytes) -> bytes:
    return sha256(secret).digest()


def _host_of(header: str) -> str:
    """The name of a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _with_headers(send: Send, more: Sequence[tuple[bytes, bytes]]) -> Send:
    async def sending(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(dict(message))

    return sending


async def _preflight(headers: Headers, send: Send) -> None:
    allowed = headers.get("access-control-request-headers", "authorization, content-type")
    answer = {
        "access-control-allow-methods": "GET, HEAD, POST, DELETE",
        "access-control-allow-headers": allowed,
        "access-control-max-age": "600",
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
