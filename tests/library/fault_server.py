"""A registry on loopback that goes wrong on purpose, by a seed: what it does to each request is drawn beforehand.

Beside it listens storage, to which it may send its clients; nobody may show that one a token.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from socketserver import BaseServer
from typing import Any

from headrace.library.manifest import CONFIG, DOCKER, OLLAMA, Layer, build, digest_of

TOKEN = "t0k3n"
# What becomes of an answer. Each may be followed by a good one, so a client that has patience comes to its end.
PASSING = ("drop", "close", "short", "long", "early", "503", "429", "416", "elsewhere", "whole", "encoded", "shifted")


@dataclass
class Shelf:
    """What the registry has, what it did, and what is still to go wrong."""

    manifests: dict[str, bytes] = field(default_factory=dict)  # by "repository:tag"
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # taken from the end, one for each request of a blob
    damage: int = 0  # answers of blobs that still get a wrong byte
    needs_token: bool = False
    ranges: bool = True
    realm: str = ""  # "" is the registry's own
    asked: list[str] = field(default_factory=list)  # paths of blobs and manifests, in order
    blob_bytes: int = 0  # that were sent of blobs
    leaked: list[str] = field(default_factory=list)  # what was shown to storage
    storage: str = ""
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, place: str, *layers: tuple[str, bytes]) -> bytes:
        """A model of these kinds of layers, under "repository:tag"."""
        every = [(OLLAMA + kind, data) for kind, data in layers]
        config = b'{"model_format":"gguf","n":%d}' % len(layers)
        self.blobs |= {digest_of(data): data for _, data in [*every, (CONFIG, config)]}
        raw = build(
            Layer(CONFIG, digest_of(config), len(config)),
            [Layer(kind, digest_of(data), len(data)) for kind, data in every],
        )
        self.manifests[place] = raw
        return raw

    def draw(self, rng: Random, count: int, kinds: Sequence[str] = PASSING) -> None:
        self.faults = rng.choices(kinds, k=count)

    def fault(self) -> str:
        with self.guard:
            return self.faults.pop() if self.faults else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shelf: Shelf
    is_storage = False

    def log_message(self, format: str, *given: Any) -> None:  # noqa: A002 - the library's name
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        shelf, path = self.shelf, self.path.partition("?")[0]
        if self.is_storage:
            if shown := self.headers.get("authorization"):
                shelf.leaked.append(shown)
            self._blob(path.rpartition("/")[2], "")
        elif path == "/token":
            self._answer(200, json.dumps({"token": TOKEN}).encode(), {})
        elif shelf.needs_token and self.headers.get("authorization") != f"Bearer {TOKEN}":
            realm = shelf.realm or f"http://{self.headers['host']}/token"
            self._answer(401, b"{}", {"www-authenticate": f'Bearer realm="{realm}",service="s",scope="pull"'})
        elif "/manifests/" in path:
            shelf.asked.append(path)
            repository, _, tag = path.removeprefix("/v2/").partition("/manifests/")
            raw = shelf.manifests.get(f"{repository}:{tag}")
            self._answer(404 if raw is None else 200, raw or b"{}", {"content-type": DOCKER})
        else:
            shelf.asked.append(path)
            self._blob(path.rpartition("/")[2], shelf.fault())

    def _blob(self, digest: str, fault: str) -> None:
        shelf = self.shelf
        data = shelf.blobs.get(digest)
        if data is None or fault == "416":
            self._answer(416 if data else 404, b"{}", {})
        elif fault in ("503", "429"):
            self._answer(int(fault), b"{}", {"retry-after": "2"})
        elif fault == "elsewhere":
            self._answer(307, b"", {"location": f"{shelf.storage}/signed/{digest}"})
        elif fault == "drop":
            self.close_connection = True
        else:
            self._send(data, fault)

    def _send(self, data: bytes, fault: str) -> None:
        first, last = 0, len(data) - 1
        asked = self.headers.get("range", "")
        ranged = bool(asked) and self.shelf.ranges and fault != "whole"
        if ranged:
            first, last = map(int, asked.removeprefix("bytes=").split("-"))
        body = bytearray(data[first : last + 1])
        with self.shelf.guard:
            if self.shelf.damage and body:
                self.shelf.damage -= 1
                body[len(body) // 2] ^= 1
            self.shelf.blob_bytes += len(body)
        said = first + (fault == "shifted")
        headers = {"content-range": f"bytes {said}-{last}/{len(data)}"} if ranged else {}
        if fault == "encoded":
            headers["content-encoding"] = "gzip"
        length = len(body) + {"short": 100, "long": -1, "early": 0}.get(fault, 0)
        self.send_response(206 if ranged else 200)
        for name, value in {**headers, "content-length": str(max(0, length))}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault in ("close", "early"):
            body = body[: len(body) // 3]
            self.close_connection = True
        if fault in ("short", "long"):
            self.close_connection = True
        self.wfile.write(bytes(body))

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of ours."""


@contextmanager
def registry(shelf: Shelf) -> Iterator[str]:
    """Its host and port, while it listens."""
    own = _Server(("127.0.0.1", 0), type("Own", (_Handler,), {"shelf": shelf}))
    storage = _Server(("127.0.0.1", 0), type("Storage", (_Handler,), {"shelf": shelf, "is_storage": True}))
    shelf.storage = f"http://127.0.0.1:{storage.server_port}"
    threads = [threading.Thread(target=_serve, args=(each,), daemon=True) for each in (own, storage)]
    for thread in threads:
        thread.start()
    try:
        yield f"127.0.0.1:{own.server_port}"
    finally:
        for each in (own, storage):
            each.shutdown()
            each.server_close()
        for thread in threads:
            thread.join()


def _serve(server: BaseServer) -> None:
    with suppress(OSError):
        server.serve_forever(poll_interval=0.01)
