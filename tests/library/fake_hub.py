"""As much of Hugging Face's site as its own library asks for to download a model."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`files` are those of the one repository; `refuses` is a status, and the library's code for it, for all else."""

    repository: str = "a/b"
    files: dict[str, bytes] = field(default_factory=dict)
    refuses: tuple[int, str] | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        hub.asked.append(f"{self.command} {self.path}")
        hub.keys.append(self.headers["authorization"])
        if hub.refuses:
            return self.reply(hub.refuses[0], b"{}", x_error_code=hub.refuses[1])
        if self.path.startswith(f"/api/models/{hub.repository}/tree/"):
            return self.reply(200, json.dumps([self.entry(name) for name in hub.files]).encode())
        if self.path.startswith(f"/api/models/{hub.repository}"):
            siblings = [{"rfilename": name} for name in hub.files]
            return self.reply(200, json.dumps({"id": hub.repository, "sha": COMMIT, "siblings": siblings}).encode())
        found = re.fullmatch(rf"/{hub.repository}/resolve/[^/]+/(.+)", self.path)
        if found and found[1] in hub.files:
            return self.file(hub.files[found[1]])
        return self.reply(404, b"{}", x_error_code="RepoNotFound")

    def entry(self, name: str) -> dict[str, Any]:
        content = self.hub.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def file(self, content: bytes) -> None:
        headers = {"etag": f'"{hashlib.sha1(content).hexdigest()}"', "x_repo_commit": COMMIT}
        self.reply(200, content, **headers)

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, text in {"content_length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def hub(**settings: Any) -> Iterator[Hub]:
    found = Hub(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": found}))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
