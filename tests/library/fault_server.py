"""A registry on loopback that speaks the protocol rightly, and breaks it as it is told to.

What goes wrong now and then is drawn from a seed, for each request to a blob anew, until `faults` of them were had: a
client that keeps trying then gets everything. What is wrong for good is a setting: then it can get nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from headrace.library.manifest import CONFIG, DOCKER, OLLAMA, Layer, build, digest_of
from headrace.library.registry.patience import Settings

# What may happen to a blob that is fetched. What came is right as far as it came.
PASSING = (
    *("drop", "drop", "drop", "hang up", "garbage", "429", "503", "500", "416", "whole", "trickle", "says more"),
    *("says less", "one byte", "another range", "another total", "encoded", "surplus", "stall"),
)
WHILE_SENT = ("drop", "forget", "503", "429", "hang up", "lost answer")  # to one that is sent
PATIENCE_S = 20.0  # for a client that should leave


@dataclass
class Registry:
    """Its contents, its character, and what it saw. `url` is set while it runs; `storage` is that of the second port,
    to which blobs are redirected if `elsewhere`."""

    seed: int = 0
    faults: int = 0  # that are still to be had
    kinds: tuple[str, ...] = PASSING
    kinds_sent: tuple[str, ...] = WHILE_SENT
    luck: float = 0.3  # how often nothing goes wrong all the same
    corrupts: int = 0  # of them, at most, with a wrong byte
    gives_ranges: bool = True
    elsewhere: bool = False
    location: str = ""  # where everything is redirected, instead
    wants: str = ""  # "token", "key" (a signed request for one), "nothing" (that exists)
    realm: str = ""  # its own, otherwise
    token_uses: int = 10**9
    retry_after: str = "1"
    refuses: dict[str, int] = field(default_factory=dict)  # a part of a path, and the status that it is answered with
    endless_manifests: bool = False
    manifest_headers: dict[str, str] = field(default_factory=dict)

    manifests: dict[str, bytes] = field(default_factory=dict)  # "a/b:latest" -> bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    repositories: dict[str, set[str]] = field(default_factory=dict)  # which blobs are in which, of those pushed
    uploads: dict[str, bytearray] = field(default_factory=dict)
    begun: int = 0  # uploads

    url: str = ""
    storage: str = ""
    asked: list[str] = field(default_factory=list)  # "GET /v2/...", of both ports
    leaks: list[str] = field(default_factory=list)  # Authorization that came to the storage
    keys: list[str] = field(default_factory=list)  # whose signature was right
    served: int = 0  # bytes of blobs
    at_byte: tuple[int, threading.Event] | None = None  # set when so many were served
    stops_at: int = 0  # bytes served, after which it sends nothing more

    def __post_init__(self) -> None:
        self.guard = threading.Lock()
        self.random = Random(self.seed)
        self._tokens: dict[str, int] = {}

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def name(self, model: str = "a/b") -> str:
        return f"{self.host}/{model}"

    def keep(self, model: str = "a/b:latest", content: bytes = b"weights", **parts: bytes) -> bytes:
        """A model; `parts` are further layers by their kind. Gives its manifest."""

        def blob(data: bytes, media_type: str) -> Layer:
            self.blobs[digest_of(data)] = data
            return Layer(media_type, digest_of(data), len(data))

        config = blob(b'{"model_format":"gguf"}', CONFIG)
        layers = [blob(content, OLLAMA + "model")] + [blob(data, OLLAMA + kind) for kind, data in parts.items()]
        self.manifests[model] = build(config, layers)
        return self.manifests[model]

    def draw(self, kinds: tuple[str, ...]) -> str:
        """What goes wrong with this request, or ""."""
        with self.guard:
            if not self.faults or self.random.random() < self.luck:
                return ""
            self.faults -= 1
            if self.corrupts and self.random.random() < 0.3:
                self.corrupts -= 1
                return "corrupt"
            return self.random.choice(kinds)

    def below(self, size: int) -> int:
        with self.guard:
            return self.random.randrange(size) if size else 0

    def give_token(self) -> str:
        with self.guard:
            token = f"token-{len(self._tokens)}"
            self._tokens[token] = self.token_uses
            return token

    def lets_in(self, authorization: str | None) -> bool:
        if not self.wants:
            return True
        with self.guard:
            token = (authorization or "").removeprefix("Bearer ")
            left = self._tokens.get(token, 0)
            self._tokens[token] = left - 1
            return left > 0 and self.wants != "nothing"

    def count(self, size: int) -> None:
        with self.guard:
            self.served += size
            if self.at_byte and self.served >= self.at_byte[0]:
                self.at_byte[1].set()

    def asks(self, part: str) -> list[str]:
        """Requests with such a part, since `asked` was last cleared."""
        return [line for line in self.asked if part in line]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    registry: Registry
    is_storage = False

    # --- answers

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, text in {"content_length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, **headers: str) -> None:
        self.read_body()
        if status in (429, 503):
            headers.setdefault("retry_after", self.registry.retry_after)
        self.reply(status, json.dumps({"errors": [{"code": "X", "message": f"it is {status}"}]}).encode(), **headers)

    def read_body(self, size: int | None = None) -> bytes:
        """The next `size` bytes of the request's body, or all that is left."""
        piece = self.rfile.read(self.left if size is None else min(size, self.left))
        self.left -= len(piece)
        return piece

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()

    def wait_for_the_end(self) -> None:
        """Sends nothing more until the client leaves."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.settimeout(PATIENCE_S)
            self.connection.recv(1)

    # --- questions

    def handle_one_request(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            super().handle_one_request()
            return
        self.close_connection = True

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PATCH(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.left = int(self.headers["content-length"] or 0)
        registry, (_, _, path, query_text, _) = self.registry, urlsplit(self.path)  # whole addresses come to a proxy
        query = parse_qs(query_text)
        with registry.guard:
            registry.asked.append(f"{self.command} {self.path}")
        if self.is_storage:
            if authorization := self.headers["authorization"]:
                registry.leaks.append(authorization)
        elif path == "/token":
            return self.token(query)
        elif registry.location:
            return self.reply(307, location=registry.location)
        elif not registry.lets_in(self.headers["authorization"]):
            return self.challenge()
        for part, status in registry.refuses.items():
            if part in f"{self.command} {self.path}":
                return self.refuse(status)
        return self.route(path, query)

    def route(self, path: str, query: dict[str, list[str]]) -> None:
        if found := re.fullmatch(r"/v2/([^/]+/[^/]+)/manifests/([^/]+)", path):
            return self.put_manifest(*found.groups()) if self.command == "PUT" else self.manifest(*found.groups())
        if found := re.fullmatch(r"/v2/([^/]+/[^/]+)/blobs/uploads/([^/]*)", path):
            return self.upload(*found.groups(), query)
        if found := re.fullmatch(r"/v2/([^/]+/[^/]+)/blobs/([^/]+)", path):
            return self.blob(*found.groups())
        return self.refuse(404)

    def challenge(self) -> None:
        realm = self.registry.realm or f"{self.registry.url}/token"
        header = f'Bearer realm="{realm}",service="fault server",scope="repository:a/b:pull,push repository:c/d:pull"'
        self.refuse(401, www_authenticate=header)

    def token(self, query: dict[str, list[str]]) -> None:
        registry = self.registry
        assert query["service"] == ["fault server"]
        assert query["scope"] == ["repository:a/b:pull,push", "repository:c/d:pull"]
        if registry.wants == "key" and not self.is_signed(query):
            return self.refuse(401)
        return self.reply(200, json.dumps({"token": registry.give_token()}).encode())

    def is_signed(self, query: dict[str, list[str]]) -> bool:
        """As Ollama's registry checks it, with a library of its own."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key

        public, _, signature = (self.headers["authorization"] or "").partition(":")
        if not public or "ts" not in query or len(query["nonce"][0]) < 20:
            return False
        key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
        assert isinstance(key, Ed25519PublicKey)
        empty = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
        try:
            key.verify(base64.b64decode(signature), f"GET,{self.registry.url}{self.path},{empty}".encode())
        except InvalidSignature:
            return False
        self.registry.keys.append(public)
        return True

    def manifest(self, repository: str, tag: str) -> None:
        raw = self.registry.manifests.get(f"{repository}:{tag}")
        if raw is None:
            return self.refuse(404)
        if self.registry.endless_manifests:
            return self.endless()
        headers = {"content_type": DOCKER, "docker_content_digest": digest_of(raw), **self.registry.manifest_headers}
        return self.reply(200, raw, **headers)

    def put_manifest(self, repository: str, tag: str) -> None:
        raw = self.read_body()
        layers = json.loads(raw)
        held = self.registry.repositories.get(repository, set())
        if any(layer["digest"] not in held for layer in [layers["config"], *layers["layers"]]):
            return self.refuse(400)
        self.registry.manifests[f"{repository}:{tag}"] = raw
        return self.reply(201, docker_content_digest=digest_of(raw))

    # --- blobs that are fetched

    def blob(self, repository: str, digest: str) -> None:
        registry = self.registry
        if self.command == "HEAD":
            return self.reply(200 if digest in registry.repositories.get(repository, ()) else 404)
        content = registry.blobs.get(digest)
        if content is None:
            return self.refuse(404)
        if registry.elsewhere and not self.is_storage:
            return self.reply(307, b"over there", location=f"{registry.storage}{self.path}?signature=secret")
        return self.send(content, registry.draw(registry.kinds))

    def send(self, content: bytes, fault: str) -> None:
        match fault:
            case "hang up":
                return self.hang_up()
            case "garbage":
                self.wfile.write(b"\x00\xff this is no HTTP\r\n\r\n")
                return self.hang_up()
            case "429" | "503" | "500" | "403":
                return self.refuse(int(fault))
            case "416" if self.headers["range"]:
                return self.reply(416, content_range=f"bytes */{len(content)}")
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"] or "")
        ranged = bool(asked) and self.registry.gives_ranges and fault != "whole"
        if asked and fault == "one byte":
            return self.send_range(content, int(asked[1]), int(asked[1]) + 1, ranged, fault)
        first, stop = (int(asked[1]), min(int(asked[2]) + 1, len(content))) if asked and ranged else (0, len(content))
        return self.send_range(content, first, stop, ranged, fault)

    def send_range(self, content: bytes, first: int, stop: int, ranged: bool, fault: str) -> None:
        body, shift = content[first:stop], int(fault == "another range")
        total = len(content) + int(fault == "another total")
        length = len(body) + {"says more": 7, "says less": -1}.get(fault, 0)
        headers = {"content-length": str(max(0, length))}
        if ranged:
            headers["content-range"] = f"bytes {first + shift}-{stop - 1}/{total}"
        if fault == "encoded":
            headers["content-encoding"] = "gzip"
        if fault in ("surplus", "endless"):
            headers["transfer-encoding"] = headers.pop("content-length") and "chunked"
        self.send_response(206 if ranged else 200)
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.send_body(body, fault)

    def send_body(self, body: bytes, fault: str) -> None:
        cut = self.registry.below(len(body))
        match fault:
            case "drop":
                self.pour(body[:cut])
                self.hang_up()
            case "stall":
                self.pour(body[:cut])
                self.wait_for_the_end()
            case "trickle":
                for at in range(cut, min(cut + 40, len(body))):
                    self.pour(body[:cut] if at == cut else b"")
                    self.pour(body[at : at + 1])
                self.pour(body[min(cut + 40, len(body)) :])
            case "corrupt" if body:
                self.pour(body[:cut] + bytes([body[cut] ^ 1]) + body[cut + 1 :])
            case "surplus":
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + 5, body + b"extra"))
            case "says more" | "says less":
                self.pour(body)
                self.hang_up()
            case _:
                self.pour(body)

    def pour(self, body: bytes) -> None:
        for at in range(0, len(body), 4096):
            if 0 < self.registry.stops_at <= self.registry.served:
                return self.wait_for_the_end()
            self.wfile.write(body[at : at + 4096])
            self.registry.count(len(body[at : at + 4096]))
        return None

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while True:  # until the client hangs up
            self.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    # --- blobs that are sent

    def upload(self, repository: str, upload: str, query: dict[str, list[str]]) -> None:
        registry, held = self.registry, self.registry.repositories.setdefault(repository, set())
        if self.command == "POST":
            if query.get("mount", [""])[0] in registry.repositories.get(query.get("from", [""])[0], set()):
                held.add(query["mount"][0])
                return self.reply(201)
            registry.begun += 1
            upload = f"upload-{registry.begun}"
            registry.uploads[upload] = bytearray()
            return self.at(202, repository, upload)
        fault = registry.draw(registry.kinds_sent)
        if fault in ("429", "503"):
            return self.refuse(int(fault))
        if fault == "hang up":
            return self.hang_up()
        if fault == "forget":
            registry.uploads.pop(upload, None)
        if upload not in registry.uploads:
            return self.refuse(404)
        return self.receive(repository, upload, query, fault)

    def receive(self, repository: str, upload: str, query: dict[str, list[str]], fault: str) -> None:
        content = self.registry.uploads[upload]
        if self.command == "GET":
            return self.at(204, repository, upload)
        if self.command == "PATCH":
            first = int(self.headers["content-range"].partition("-")[0])
            if first != len(content):
                return self.refuse(416)
            content += self.read_body(self.registry.below(self.left) if fault == "drop" else None)
            return self.hang_up() if fault in ("drop", "lost answer") else self.at(202, repository, upload)
        digest = query["digest"][0]
        if digest_of(bytes(content)) != digest:
            return self.refuse(400)
        self.registry.blobs[digest] = bytes(content)
        self.registry.repositories[repository].add(digest)
        del self.registry.uploads[upload]
        return self.hang_up() if fault in ("drop", "lost answer", "lost commit") else self.reply(201)

    def at(self, status: int, repository: str, upload: str) -> None:
        location = f"/v2/{repository}/blobs/uploads/{upload}?_state=x"  # relative, as it may be
        received = f"0-{max(0, len(self.registry.uploads[upload]) - 1)}"
        self.reply(status, location=location, range=received, **({"content_length": "0"} if status == 204 else {}))

    def log_message(self, *_: Any) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is none."""


# So that a client finds many parts in small blobs, and gives up after more tries than a server has faults.
HASTY = Settings(
    connections=4, part_bytes=16 << 10, chunk_bytes=16 << 10, stall_s=0.5, first_tries=60, tries=60, worthwhile_bytes=1
)


class NoTime:
    """A clock on which waits take no time: it only knows how long they would have been."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def wait(self, stop: threading.Event, seconds: float) -> None:  # noqa: ARG002
        self.waits.append(seconds)


@contextmanager
def registry(tls: ssl.SSLContext | None = None, **settings: Any) -> Iterator[Registry]:
    """One that runs. At its end, nothing that was for it alone must have come to the storage."""
    registry = Registry(**settings)
    servers = [
        Server(("127.0.0.1", 0), type("Handler", (Handler,), {"registry": registry, "is_storage": is_storage}))
        for is_storage in (False, True)
    ]
    registry.url, registry.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    if tls:
        registry.url = registry.url.replace("http:", "https:")
        servers[0].socket = tls.wrap_socket(servers[0].socket, server_side=True)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield registry
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert registry.leaks == []
