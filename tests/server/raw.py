"""HTTP as no client library writes it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit


@contextmanager
def connected(url: str, timeout_s: float = 20.0) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=timeout_s) as one:
        yield one


def head(method: str, path: str, **headers: str) -> bytes:
    """With a Host, and headers whose names are written with underscores."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request(path: str, body: bytes | dict[str, Any], **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", path, content_length=str(len(content)), **headers) + content


def ended(one: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    pieces = []
    try:
        while piece := one.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:
        pieces.append(b"<reset>")
    return b"".join(pieces)


def answer(one: socket.socket) -> tuple[int, bytes]:
    """The status and the body of one answer that says its length; the connection may go on."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = one.recv(1)
        assert piece, f"the connection ended after {got!r}"
        got += piece
    lines = got.split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    body = b""
    while len(body) < length:
        body += one.recv(length - len(body))
    return int(lines[0].split()[1]), body


def said(url: str, content: bytes) -> bytes:
    """What comes back until the connection ends, which the server ends by itself."""
    with connected(url) as one:
        one.sendall(content)
        return ended(one)


def status(answered: bytes) -> int:
    return int(answered.split(b" ", 2)[1])
