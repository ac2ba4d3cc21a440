"""HTTP to a registry, and to the storage that it sends its clients to.

What answers is a stranger: where it sends us, how much it says and how long it takes are checked. Whatever goes wrong
on the way becomes an error of ours; what may be over at the next try, a Passing.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakSet

import httpx

from headrace import __version__
from headrace.errors import HeadraceError, RequestInvalid, ServerFailed, Unreachable
from headrace.library.registry.hosts import Host, is_loopback
from headrace.library.registry.patience import USUAL, Passing, Settings

MOST_HOPS: Final = 5
MOVED: Final = frozenset({301, 302, 303, 307, 308})
SAME_QUESTION: Final = frozenset({307, 308})  # for a question that changes something, no other move is followed
LONGEST_S: Final = 120.0  # for an answer that is read whole, however steadily it trickles
LARGEST_WORDS: Final = 64 << 10  # bytes of an answer that is none, and only says why

Show = Callable[[httpx.URL], str]  # what Authorization is sent to an address, or ""


@dataclass(frozen=True, slots=True)
class Question:
    """A request. `body` is called anew each time that it is sent; `size` is that of the body in bytes."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterable[bytes]] | None = None
    size: int = 0
    anywhere: bool = False  # it may be sent on to other hosts than the registry and its friends
    hops: int = MOST_HOPS


class Web:
    """Connections to one registry, used by several threads. `close` it."""

    def __init__(self, host: Host, settings: Settings = USUAL) -> None:
        self.host = host
        self._settings = settings
        self._sockets: WeakSet[socket.socket] = WeakSet()
        try:
            self._client = httpx.Client(
                headers={"accept-encoding": "identity", "user-agent": f"headrace/{__version__}"},
                timeout=httpx.Timeout(settings.stall_s, connect=settings.connect_s),
                limits=httpx.Limits(max_connections=2 * settings.connections + 2),
                trust_env=not host.is_loopback,  # a proxy is for other machines
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise RequestInvalid(
                f"the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used: {error}"
            ) from error

    def close(self) -> None:
        self._client.close()

    def hang_up(self) -> None:
        """Ends what other threads wait for; closing a connection would not wake them."""
        for one in list(self._sockets):
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    @contextmanager
    def ask(self, question: Question, show: Show = lambda _: "") -> Iterator[httpx.Response]:
        """The answer, its body not read yet, from wherever the registry sends us. `show` is asked at each address."""
        url = httpx.URL(question.url)
        with self._in_our_words():
            response = self._sent(question, url, show)
            try:
                for _ in range(question.hops):
                    if response.status_code not in MOVED or "location" not in response.headers:
                        break
                    url = self._next(question, response)
                    said(response)  # a short one leaves the connection open for the next
                    response.close()
                    response = self._sent(question, url, show)
                else:
                    if question.hops and response.status_code in MOVED:
                        raise ServerFailed(f"{self.host.name} sends us on and on, more than {question.hops} times")
                yield response
            finally:
                response.close()

    def is_own(self, url: httpx.URL) -> bool:
        """Whether it is the registry itself."""
        return url.scheme == httpx.URL(self.host.url).scheme and _netloc(url) == self.host.name

    def speaks_for(self, url: httpx.URL) -> bool:
        """Whether it is the registry or one of its friends: what they say of a model counts."""
        return _netloc(url) in {self.host.name, *self.host.friends}

    def check(self, url: httpx.URL, anywhere: bool) -> httpx.URL:
        """`url`, where we may be sent. Raises ServerFailed."""
        name = self.host.name
        if url.scheme != "https" and not (url.scheme == "http" and self.host.plain):
            raise ServerFailed(f"{name} sends us to {_shown(url)}, which is not encrypted: nothing was fetched")
        if url.userinfo or not url.host:
            raise ServerFailed(f"{name} sends us to {_shown(url)}, which is no address to follow")
        if is_loopback(url.host) and not self.host.is_loopback:
            raise ServerFailed(f"{name} sends us to {_shown(url)}, which is this machine: nothing was fetched")
        if not anywhere and not self.speaks_for(url):
            raise ServerFailed(f"{name} sends us to {_shown(url)}, which does not speak for it")
        return url

    def _next(self, question: Question, response: httpx.Response) -> httpx.URL:
        if question.method not in ("GET", "HEAD") and response.status_code not in SAME_QUESTION:
            raise ServerFailed(f"{self.host.name} answers a {question.method} with the status {response.status_code}")
        return self.check(response.url.join(response.headers["location"]), question.anywhere)

    def _sent(self, question: Question, url: httpx.URL, show: Show) -> httpx.Response:
        headers = {**question.headers}
        if shown := show(url):
            headers["authorization"] = shown
        if question.method not in ("GET", "HEAD"):
            headers["content-length"] = str(question.size)
        content = question.body() if question.body else None
        request = self._client.build_request(question.method, url, headers=headers, content=content)
        request.extensions["trace"] = self._watch
        return self._client.send(request, stream=True)

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Notes each connection when it is made, and again when it is encrypted: then it has another socket."""
        get = getattr(info.get("return_value"), "get_extra_info", None)
        if event.endswith(".complete") and get and isinstance(found := get("socket"), socket.socket):
            self._sockets.add(found)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _unreachable(error.request.url, error) from error
        except httpx.TimeoutException as error:
            sentence = f"{error.request.url.host} has sent nothing for {self._settings.stall_s:g} seconds"
            raise Passing(ServerFailed(f"{sentence}: try again later")) from error
        except httpx.RequestError as error:
            sentence = f"{error.request.url.host} ended the connection: {_reason(error)}"
            raise Passing(ServerFailed(f"{sentence}: try again later")) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ServerFailed(f"{self.host.name} names an address that is none: {error}") from error


def whole(response: httpx.Response, most: int) -> bytes:
    """The body. Raises ServerFailed where it is longer than `most` bytes, Passing where it does not come to an end."""
    body, until = bytearray(), time.monotonic() + LONGEST_S
    for piece in response.iter_raw():
        body += piece
        if time.monotonic() > until:
            sentence = f"{response.url.host} has sent only {len(body)} bytes in {LONGEST_S:g} seconds"
            raise Passing(ServerFailed(f"{sentence}: try again later"))
        if len(body) > most:
            raise ServerFailed(f"{response.url.host} answers with more than {most} bytes to {_shown(response.url)}")
    return bytes(body)


def said(response: httpx.Response) -> bytes:
    """The body of an answer that only says why, or nothing where it cannot be had."""
    with suppress(HeadraceError, Passing, httpx.HTTPError):
        return whole(response, LARGEST_WORDS)
    return b""


def _unreachable(url: httpx.URL, error: Exception) -> Exception:
    name = _netloc(url)
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unreachable(
            f"{name} shows a certificate that nobody vouches for: where a proxy of yours does that, name its "
            "certificates in SSL_CERT_FILE"
        )
    advice = "look at the network, or at the proxy in HTTPS_PROXY if there is one"
    if is_loopback(url.host):
        advice = "start the registry there, or mend the port in the name"
    return Passing(Unreachable(f"nothing answers at {name} ({_reason(error)}): {advice}"))


def _netloc(url: httpx.URL) -> str:
    return url.netloc.decode("ascii", "replace")


def _shown(url: httpx.URL) -> str:
    """Without the query: what storage is sent to holds a signature there."""
    return f"{url.scheme}://{_netloc(url)}{url.path}"[:200]


def _reason(error: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
