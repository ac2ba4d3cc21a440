"""One registry: manifests and blobs by name, as Docker's and OCI's registries, Ollama's and Hugging Face's have them.

Source: https://distribution.github.io/distribution/spec/api/, https://github.com/opencontainers/distribution-spec
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Final
from urllib.parse import quote

import httpx

from headrace.errors import Forbidden, HeadraceError, ModelNotFound, RequestInvalid, ServerFailed
from headrace.library.manifest import DOCKER, LARGEST_BYTES, OCI, digest_of, is_digest
from headrace.library.names import Name
from headrace.library.registry.access import Access
from headrace.library.registry.hosts import Host, host_of
from headrace.library.registry.key import Key
from headrace.library.registry.patience import USUAL, Clock, Passing, Patience, Settings, retry_after
from headrace.library.registry.web import Question, Web, said, whole
from headrace.machine import home_folder

MOST_CHALLENGES: Final = 6  # for one question
BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# Storage is asked with addresses that expire: another one is to be had from the registry.
EXPIRED: Final = frozenset({400, 401, 403, 404, 410})
LONGEST_SAID: Final = 300  # characters of what a registry says is wrong


@dataclass(frozen=True, slots=True)
class Place:
    """What is asked of a registry: a repository (namespace/model), and what a sentence calls it."""

    repository: str
    shown: str


@dataclass(frozen=True, slots=True)
class Options:
    """How registries are reached: `also` are more that may be asked (see `host_of`), `key` is where the key is. Whoever
    sets `stop` ends what is asked for, with Stopped."""

    also: tuple[str, ...] = ()
    loopback: bool = True  # those of this machine may be asked without being named
    key: Path | None = None
    settings: Settings = USUAL
    clock: Clock | None = None
    stop: Event | None = None


DEFAULTS: Final = Options()


def connect(name: Name, options: Options = DEFAULTS, *, push: bool = False) -> Registry:
    """The registry that a name speaks of. Raises Offline, Forbidden, RequestInvalid."""
    host = host_of(name.host, plain=name.scheme == "http", also=options.also, loopback=options.loopback)
    key = Key(options.key or home_folder() / "id_ed25519")
    token = _hub_token() if host.is_hugging_face else ""
    return Registry(
        host,
        settings=options.settings,
        clock=options.clock,
        stop=options.stop,
        key=key,
        push=push,
        hub_token=token,
    )


def _hub_token() -> str:
    """That of HF_TOKEN, or of `hf auth login`."""
    from huggingface_hub import get_token

    return get_token() or ""


class Registry:
    """Methods raise Unreachable, ServerFailed, Forbidden, ModelNotFound, RequestInvalid; and Passing where they say so.

    `key` signs for what is private, and with `push` for what is pushed; `hub_token` is for Hugging Face alone. What
    waits ends when `stop` is set, with Stopped.
    """

    def __init__(
        self,
        host: Host,
        *,
        settings: Settings = USUAL,
        clock: Clock | None = None,
        stop: Event | None = None,
        key: Key | None = None,
        push: bool = False,
        hub_token: str = "",
    ) -> None:
        self.host, self.settings = host, settings
        self.patience = Patience(settings, clock, stop)
        self._web = Web(host, settings)
        self._access = Access(self._web, key, push=push, hub_token=hub_token)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._web.close()

    def hang_up(self) -> None:
        """Wakes the threads that wait for an answer: what they do ends with a Passing."""
        self._web.hang_up()

    # --- manifests

    def manifest(self, place: Place, tag: str) -> bytes:
        """The bytes of a manifest, as they are."""
        return self.patience.ask(lambda: self._manifest(place, tag))

    def manifest_digest(self, place: Place, tag: str) -> str | None:
        """The digest of a manifest, without fetching it; None where there is none, or the registry does not say."""

        def once() -> str | None:
            with self.answer(self._of_manifest("HEAD", place, tag), place, {200, 404}) as response:
                found = response.headers.get("docker-content-digest", "")
                return found if response.status_code == 200 and is_digest(found) else None

        return self.patience.ask(once)

    def put_manifest(self, place: Place, tag: str, raw: bytes) -> None:
        """Gives a manifest its name. Its blobs must be there."""
        kind = json.loads(raw).get("mediaType", DOCKER)
        question = replace(
            self._of_manifest("PUT", place, tag),
            headers={"content-type": kind},
            body=lambda: iter([raw]),
            size=len(raw),
        )

        def once() -> None:
            with self.answer(question, place, {200, 201, 202, 204}) as response:
                found = response.headers.get("docker-content-digest", "")
                if is_digest(found) and found != digest_of(raw):
                    raise ServerFailed(f"{self.host.name} keeps the manifest as {found}, and it is {digest_of(raw)}")

        self.patience.ask(once)

    def _manifest(self, place: Place, tag: str) -> bytes:
        with self.answer(self._of_manifest("GET", place, tag), place, {200}) as response:
            raw = whole(response, LARGEST_BYTES)
            found = response.headers.get("docker-content-digest", "")
        if is_digest(found) and found != digest_of(raw):
            raise Passing(
                ServerFailed(f"{self.host.name} gives the manifest's digest as {found}, and it is {digest_of(raw)}")
            )
        return raw

    def _of_manifest(self, method: str, place: Place, tag: str) -> Question:
        return Question(method, self.url(place, f"manifests/{quote(tag)}"), {"accept": f"{DOCKER}, {OCI}"})

    # --- blobs

    def has_blob(self, place: Place, digest: str) -> bool:
        def once() -> bool:
            question = Question("HEAD", self.url(place, f"blobs/{digest}"), anywhere=True)
            with self.answer(question, place, {200, 404}) as response:
                return response.status_code == 200

        return self.patience.ask(once)

    @contextmanager
    def blob(self, place: Place, digest: str, asked: str | None = None) -> Iterator[httpx.Response]:
        """The answer to a GET of a blob, or of a range: not read yet, of status 200, 206 or 416. Raises Passing."""
        headers = {"range": asked} if asked else {}
        question = Question("GET", self.url(place, f"blobs/{digest}"), headers, anywhere=True)
        try:
            with self.answer(question, place, {200, 206, 416}) as response:
                yield response
        except ModelNotFound:
            raise ServerFailed(f"{self.host.name} has no blob {digest}, which the manifest names") from None

    # --- whatever is asked

    def url(self, place: Place, path: str) -> str:
        return f"{self.host.url}/v2/{place.repository}/{path}"

    @contextmanager
    def answer(self, question: Question, place: Place, wanted: Collection[int]) -> Iterator[httpx.Response]:
        """An answer with one of the `wanted` statuses, after showing what the registry wants to see.

        Raises what other statuses mean; Passing where that may be over at the next try.
        """
        way = -1
        for _ in range(MOST_CHALLENGES):
            shown = self._access.token
            with self._web.ask(question, self._access.show) as response:
                if not (response.status_code == 401 and self._web.speaks_for(response.url)):
                    if response.status_code not in wanted:
                        self._refuse(response, place)
                    yield response
                    return
                said(response)
                challenge = response.headers.get("www-authenticate", "")
            way = self._access.renew(challenge, shown, way)
        raise Forbidden(f"{self.host.name} asks for one token after the other, and takes none")

    def sent_to(self, response: httpx.Response, *names: str) -> str | None:
        """The address that the first of these headers has, if we may be sent there. Raises ServerFailed."""
        for text in filter(None, map(response.headers.get, names)):
            return str(self._web.check(response.url.join(text), anywhere=True))
        return None

    def _refuse(self, response: httpx.Response, place: Place) -> None:
        """Raises what an answer means that is none of those wanted."""
        status, name = response.status_code, response.url.host
        words = _sentence(said(response))
        because = f": {words}" if words else ""
        if status in BUSY or (status in EXPIRED and not self._web.speaks_for(response.url)):
            error = ServerFailed(f"{name} answers with the status {status}{because}")
            raise Passing(error, retry_after(response.headers.get("retry-after", "")))
        raise self._meaning(status, because, place)

    def _meaning(self, status: int, because: str, place: Place) -> HeadraceError:
        name = self.host.name
        if status == 404:
            return ModelNotFound(f"{name} has no {place.shown}{because}: look at its spelling")
        if status in (401, 403):
            return Forbidden(f"{name} does not let us at {place.shown}{because}")
        if status in (400, 422):
            return RequestInvalid(f"{name} refuses {place.shown}{because or f' with the status {status}'}")
        return ServerFailed(f"{name} answers with the status {status}{because}")


def _sentence(body: bytes) -> str:
    """What is wrong, as registries say it: {"errors": [{"code", "message"}]}, or {"error": "..."}."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    match value:
        case {"errors": [{"message": str(words)}, *_]} | {"error": str(words)} | {"message": str(words)}:
            return words[:LONGEST_SAID]
    return ""
