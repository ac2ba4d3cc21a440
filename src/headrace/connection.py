"""A server that is asked over Ollama's API, ours or Ollama's: its address, its replies, its errors.

What it says is a stranger's word: sizes and types are checked before anything is made of it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from headrace.errors import (
    Forbidden,
    HeadraceError,
    KeyMissing,
    ModelNotFound,
    RequestInvalid,
    ServerFailed,
    TooLarge,
    Unreachable,
)

PORT: Final = 11434
LARGEST_BYTES: Final = 32 << 20  # of a reply, or of a line of one that comes in lines
MOST_NAMES: Final = 20  # that a sentence lists
CONNECT_S, READ_S = 10.0, 60.0
# An answer may wait for its model to be loaded, and then for others, longer than anybody can say.
PATIENT: Final = httpx.Timeout(None, connect=CONNECT_S)
STATUSES: Final[Mapping[int, type[HeadraceError]]] = {403: Forbidden, 413: TooLarge}

T = TypeVar("T")


def url_of(host: str, port: int = PORT) -> str:
    """Where a server is, without a slash at the end, from what OLLAMA_HOST may be: `host`, `host:port`, `:port`,
    `http(s)://host:port/path`. Raises RequestInvalid.

    Without a port it is `port`, or 80 and 443 where the scheme is named. An address that means all of a machine's own,
    to listen on, means this machine.
    """
    scheme, separator, rest = host.strip().rpartition("://")
    scheme, (place, _, path) = scheme.lower() or "http", rest.partition("/")
    if separator:
        port = {"http": 80, "https": 443}.get(scheme, port)
    try:
        if re.search(r"[\s@?#\\]", rest) or scheme not in ("http", "https"):
            raise ValueError
        parts = urlsplit(f"//[{place}]" if _is_bare_ipv6(place) else f"//{place}")
        name, port = parts.hostname or "127.0.0.1", port if parts.port is None else parts.port
    except ValueError:
        raise RequestInvalid(
            f"{host!r} is no server's address: expected host, host:port, or http(s)://host:port/path"
        ) from None
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}/{path}".rstrip("/")


def _is_bare_ipv6(place: str) -> bool:
    try:
        return ipaddress.ip_address(place).version == 6
    except ValueError:
        return False


class Server:
    """Where requests go. `close` it to end its connections.

    Every method raises Unreachable, ServerFailed, and for what a server refuses what a model here would: ModelNotFound,
    KeyMissing, RequestInvalid and their like.
    """

    def __init__(self, host: str, key: str | None = None) -> None:
        self.url = url_of(host)
        self._has_key = bool(key)
        headers = {"accept-encoding": "identity", "user-agent": "headrace"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise RequestInvalid("the key has characters that no header can carry")
            headers["authorization"] = f"Bearer {key}"
        name = urlsplit(self.url).hostname or ""
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            trust_env=not _is_this_machine(name),  # a proxy is for other machines
            verify=self.url.startswith("https:"),  # reading the certificates takes longer than asking
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object that is at `path`."""
        return self._reply("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that answers `body`."""
        return self._reply("POST", path, body, PATIENT)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The JSON objects that answer `body`, line by line as they come; leaving it closes the connection."""
        with self._asking("POST", path, body, PATIENT) as response:
            for line in _lines(self.url, response):
                value = self._object(line, path)
                if "error" in value:
                    raise ServerFailed(f"{self.url}: {_sentence(value) or 'an error without a word'}")
                yield value

    def names(self) -> list[str]:
        """The models that it has."""
        models = field(self.get("/api/tags"), "models", list, [], self.url)
        return [model["name"] for model in models if isinstance(model, dict) and isinstance(model.get("name"), str)]

    def loaded(self) -> list[dict[str, Any]]:
        """What /api/ps says of each model that is loaded."""
        models = field(self.get("/api/ps"), "models", list, [], self.url)
        return [model for model in models if isinstance(model, dict) and isinstance(model.get("name"), str)]

    def unload(self, name: str) -> None:
        """When what it answers now has ended."""
        with self.knowing(name):
            self.post("/api/generate", {"model": name, "keep_alive": 0, "stream": False})

    @contextmanager
    def knowing(self, name: str) -> Iterator[None]:
        """Whoever asks for a model that is not there is told which are."""
        try:
            yield
        except ModelNotFound as error:
            names = self.names()
            if same_name(name, names):
                raise
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            listed = f"it has {', '.join(names[:MOST_NAMES])}{more}" if names else "it has none"
            raise ModelNotFound(f"there is no model {name!r} at {self.url}: {listed}") from error

    def _reply(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: httpx.Timeout | None = None
    ) -> dict[str, Any]:
        with self._asking(method, path, body, timeout) as response:
            return self._object(_whole(self.url, response), path)

    @contextmanager
    def _asking(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: httpx.Timeout | None
    ) -> Iterator[httpx.Response]:
        """A response that is none of an error; what goes wrong with the connection is said in our words."""
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        try:
            with self._client.stream(method, self.url + path, json=body, **options) as response:
                if response.status_code != 200:
                    self._refuse(path, response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise Unreachable(
                f"nothing answers at {self.url} ({_reason(error)}): start a server with `headrace serve`, or say with "
                "--host where one is"
            ) from error
        except httpx.TimeoutException:
            raise ServerFailed(f"{self.url} did not answer within {READ_S:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerFailed(f"{self.url} ended the connection: {_reason(error)}") from error

    def _refuse(self, path: str, response: httpx.Response) -> None:
        """Raises what the status and the body say."""
        status, said = response.status_code, ""
        with suppress(ValueError, RecursionError):
            said = _sentence(json.loads(_whole(self.url, response)))
        if status == 401:
            why = "it does not know the key" if self._has_key else "it wants a key"
            raise KeyMissing(f"{self.url}: {why}: give one with --api-key, or in HEADRACE_API_KEY")
        if status == 404 and re.search(r"\bmodel\b.*\bnot found\b", said):
            raise ModelNotFound(said)
        if status in (404, 405):
            raise RequestInvalid(f"{self.url} has no {path}: is there a server of Headrace or Ollama?")
        if 300 <= status < 400:
            to = response.headers.get("location", "another address")
            raise RequestInvalid(f"{self.url} sends to {to}: give the address of the server itself")
        said = said or f"{path} was answered with the status {status}"
        if 400 <= status < 500 or status in STATUSES:
            raise STATUSES.get(status, RequestInvalid)(said)
        raise ServerFailed(f"{self.url}: {said}")

    def _object(self, text: bytes, path: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ServerFailed(f"{self.url}: what it answers to {path} is no JSON object")
        return value


def same_name(name: str, names: Sequence[str] | Mapping[str, Any]) -> str | None:
    """That of the `names` which means the same model: in any case, with or without ":latest"."""
    return next((other for other in names if _plain(other) == _plain(name)), None)


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(":latest")


def field(value: Mapping[str, Any], name: str, kind: type[T], missing: T, url: str) -> T:
    """What is null is as if it were not there."""
    found = value.get(name)
    if found is None:
        return missing
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ServerFailed(f"{url}: {name} is {json.dumps(found)[:40]} where it should be of another type")
    return found


def _is_this_machine(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _sentence(value: Any) -> str:
    """What the body of an error says, in Ollama's form or in OpenAI's."""
    error = value.get("error") if isinstance(value, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    return said if isinstance(said, str) else ""


def _lines(url: str, response: httpx.Response) -> Iterator[bytes]:
    """What stands between line feeds: text may hold every other end of a line."""
    rest = b""
    for piece in response.iter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(bytes.strip, whole)
        if len(rest) > LARGEST_BYTES:
            raise ServerFailed(f"{url}: a line of its answer is longer than {LARGEST_BYTES >> 20} MiB")
    if rest.strip():
        yield rest


def _whole(url: str, response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > LARGEST_BYTES:
            raise ServerFailed(f"{url}: its answer is longer than {LARGEST_BYTES >> 20} MiB")
    return bytes(body)


def _reason(error: Exception) -> str:
    """The system's words without its number: "Connection refused"."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
