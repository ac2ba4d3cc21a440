"""What a registry is shown before it lets us in: a token from whoever it names, if we trust that one to.

    401, WWW-Authenticate: Bearer realm="https://ollama.com/token",service="ollama",scope="repository:a/b:push"
    GET https://ollama.com/token?nonce=..&scope=..&service=..&ts=..  ->  {"token": "..."}

A token is asked for by nobody in particular, or (Ollama's registry, for what is private and to push) in the name of a
key: Authorization is then its public half and a signature of "GET,URL,digest of an empty body". Sources:
https://distribution.github.io/distribution/spec/auth/token/, https://github.com/ollama/ollama/blob/main/server/auth.go
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import httpx

from headrace.errors import Forbidden, ServerFailed
from headrace.library.registry.hosts import HUGGING_FACE
from headrace.library.registry.key import Key
from headrace.library.registry.patience import Passing
from headrace.library.registry.web import Question, Web, said, whole

LONGEST_CHALLENGE: Final = 4096  # characters
LARGEST_TOKEN: Final = 64 << 10  # bytes, with the JSON around it
_PAIR = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """Whom a registry wants a token from (`realm` is an address), for which `service`, and to do what."""

    realm: str
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> Challenge | None:
        """What a WWW-Authenticate header asks for; None where it is no token."""
        scheme, _, rest = header[:LONGEST_CHALLENGE].strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        pairs = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(rest)}
        realm = pairs.get("realm", "")
        return cls(realm, pairs.get("service", ""), pairs.get("scope", "")) if "://" in realm else None

    def url(self, extra: dict[str, str] | None = None) -> str:
        """The address that gives the token. The query is in the order of its names, as its signature expects."""
        realm, _, query = self.realm.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        pairs += [("service", self.service)] if self.service else []
        pairs += [("scope", scope) for scope in self.scope.split(" ") if scope]
        pairs += list((extra or {}).items())
        return f"{realm}?{urlencode(sorted(pairs, key=lambda pair: pair[0]))}"


class Access:
    """The token that a registry is shown, got and renewed when it asks. Used by several threads.

    `key` is None where nothing is signed: without a key yet, only `push` makes one.
    """

    def __init__(self, web: Web, key: Key | None = None, *, push: bool = False, hub_token: str = "") -> None:
        self._web, self._key, self._hub_token = web, key, hub_token
        signed = [self._signed] if key and not web.host.is_hugging_face and (push or key.exists) else []
        # To push, somebody in particular is asked for first; to pull, nobody need know who we are.
        self._ways: Sequence[Callable[[Challenge], str]] = (
            [*signed, self._anonymous] if push else [self._anonymous, *signed]
        )
        self._guard = Lock()
        self.token = ""

    def show(self, url: httpx.URL) -> str:
        """The Authorization for an address: what is the registry's is shown to nobody else."""
        if self._hub_token and url.scheme == "https" and url.host in HUGGING_FACE and url.port is None:
            return f"Bearer {self._hub_token}"
        return f"Bearer {self.token}" if self.token and self._web.is_own(url) else ""

    def renew(self, header: str, shown: str, way: int = -1) -> int:
        """After the registry answered `shown` (a token, or "") with 401 and this WWW-Authenticate: another token.

        `way` is how the last one came for the same question, where one did; given back is how this one came. Raises
        Forbidden where there is nothing else to show; Passing, ServerFailed.
        """
        with self._guard:
            if self.token != shown:
                return way  # another thread was here first
            challenge = self._challenge(header)
            for number in range(way + 1, len(self._ways)):
                if token := self._ways[number](challenge):
                    self.token = token
                    return number
            raise self._forbidden()

    def _challenge(self, header: str) -> Challenge:
        name = self._web.host.name
        if self._web.host.is_hugging_face:
            raise self._forbidden()
        challenge = Challenge.parse(header)
        if challenge is None:
            raise Forbidden(f"{name} wants to know who we are in a way that Headrace does not know ({header[:80]!r})")
        try:
            self._web.check(httpx.URL(challenge.realm), anywhere=False)
        except (httpx.InvalidURL, UnicodeError):
            raise ServerFailed(f"{name} names an address that is none: {challenge.realm[:80]!r}") from None
        return challenge

    def _forbidden(self) -> Forbidden:
        name = self._web.host.name
        if self._web.host.is_hugging_face:
            why = "refuses the token of HF_TOKEN" if self._hub_token else "lets nobody in without a token"
            return Forbidden(
                f"{name} {why}: it may be a model that does not exist, or is private or gated: ask for access there, "
                "and put a token that may read it into HF_TOKEN"
            )
        if self._key and self._key.exists:
            return Forbidden(
                f"{name} does not let in the owner of this key: add {self._key.public_path} to your account there"
            )
        return Forbidden(f"{name} does not let us in")

    def _anonymous(self, challenge: Challenge) -> str:
        return self._token(challenge.url(), "")

    def _signed(self, challenge: Challenge) -> str:
        assert self._key is not None
        extra = {"ts": str(int(time.time())), "nonce": secrets.token_urlsafe(16)}
        url = str(httpx.URL(challenge.url(extra)))  # as it is sent, to the letter
        return self._token(url, self._key.sign(f"GET,{url},{_EMPTY}".encode()))

    def _token(self, url: str, signature: str) -> str:
        """What is given out at `url`, or "" where it is refused."""
        with self._web.ask(Question("GET", url, hops=0), lambda _: signature) as response:
            status = response.status_code
            if status in (400, 401, 403, 404):
                said(response)
                return ""
            if status != 200:
                error = ServerFailed(f"{response.url.host} gives no token: it answers with the status {status}")
                raise Passing(error) if status >= 500 or status == 429 else error
            return _token_in(whole(response, LARGEST_TOKEN), response.url.host)


# The digest of an empty body, as Ollama's registry wants it.
_EMPTY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def _token_in(body: bytes, name: str) -> str:
    try:
        fields: Any = json.loads(body)
        token = fields.get("token") or fields.get("access_token") or ""
    except (ValueError, RecursionError, AttributeError):
        token = None
    # What is empty opens nothing, and what no header can carry must not come near one.
    if not isinstance(token, str) or not token.isascii() or not all(c.isprintable() for c in token):
        raise ServerFailed(f"{name} answers with something that is no token")
    return token
