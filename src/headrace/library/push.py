"""A model from the store to a registry: the blobs that it lacks, then the manifest, byte for byte as it is here.

HEAD blob                   is there: nothing to do
POST blobs/uploads/         an upload begins, at an address (or is over: the blob is in another repository there)
PATCH address               a chunk; the answer has the address for the next
GET address                 after a failure: how far it got
PUT address?digest=         the end
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

from headrace.errors import FileInvalid, Forbidden, HeadraceError, ModelNotFound, RequestInvalid, ServerFailed
from headrace.library.files import disk_errors, watched
from headrace.library.manifest import Layer, Manifest
from headrace.library.names import HOST, NAMESPACE, Name
from headrace.library.progress import Progress, Report, unwatched
from headrace.library.registry.client import DEFAULTS, Options, Place, Registry, connect
from headrace.library.registry.patience import Passing
from headrace.library.registry.web import Question
from headrace.library.store import Store

PIECE_BYTES: Final = 1 << 20  # read and sent at a time
ADDRESS: Final = ("docker-upload-location", "location")  # Ollama's registry has both
LOST: Final = frozenset({404, 416})
_RECEIVED: Final = re.compile(r"(?:bytes=)?0-(\d{1,19})")


def push(name: Name, store: Store, report: Report = unwatched, options: Options = DEFAULTS) -> Manifest:
    """Sends a model of `store` to the registry that its name speaks of.

    `report` is called in this thread; what it raises ends the push. Raises ModelNotFound, FileInvalid, Offline,
    Unreachable, Forbidden, RequestInvalid, StoreRefused, ServerFailed.
    """
    if name.host == HOST and name.namespace.lower() == NAMESPACE:
        raise RequestInvalid(f"{name} names nobody whose it would be: copy it to YOUR-NAME/{name.model} and push that")
    report = watched(report)
    report(Progress("retrieving manifest"))
    with ExitStack() as stack:
        if store.can_write:  # what is being sent is not collected meanwhile
            session = stack.enter_context(store.writing())
            manifest = session.keep_model(name)
        else:
            manifest = store.manifest(name)
        _check_whole(name, store, manifest)
        registry = stack.enter_context(connect(name, options, push=True))
        place, elsewhere = Place(name.repository, str(name)), _elsewhere(name, store)
        for layer in manifest.blobs:
            _Push(registry, place, layer, store.blob(layer.digest), report).run(elsewhere.get(layer.digest))
        report(Progress("pushing manifest"))
        registry.put_manifest(place, name.tag, manifest.raw)
    report(Progress("success"))
    return manifest


def _check_whole(name: Name, store: Store, manifest: Manifest) -> None:
    for layer in manifest.blobs:
        if not store.has(layer):
            raise FileInvalid(name, f"{layer.digest} is missing or not whole: pull it again")


def _elsewhere(name: Name, store: Store) -> Mapping[str, str]:
    """Blobs that the same registry may have in another repository: whoever copied a model need not send it again."""
    found = dict[str, str]()
    for other in store.names():
        if other.host == name.host and other.repository != name.repository:
            try:
                manifest = store.manifest(other)
            except HeadraceError:  # a broken one is in nobody's way
                continue
            found |= {layer.digest: other.repository for layer in manifest.blobs}
    return found


class _Push:
    """One blob on its way to a registry."""

    def __init__(self, registry: Registry, place: Place, layer: Layer, path: Path, report: Report) -> None:
        self._registry, self._place = registry, place
        self._layer, self._path, self._report = layer, path, report

    def run(self, elsewhere: str | None) -> None:
        """`elsewhere` is a repository that may have it."""
        self._show(0)
        if not self._registry.has_blob(self._place, self._layer.digest):
            is_there, address = self._mounted(elsewhere) if elsewhere else (False, "")
            if not is_there:
                self._send(address)
        self._show(self._layer.size)

    def _mounted(self, elsewhere: str) -> tuple[bool, str]:
        """Whether the registry took it from there, and if not, where it is to be sent. Who may not look there is told
        neither."""
        query = httpx.QueryParams({"mount": self._layer.digest, "from": elsewhere})
        question = Question("POST", self._registry.url(self._place, f"blobs/uploads/?{query}"))
        try:
            status, address, _ = self._registry.patience.ask(lambda: self._asked(question, {201, 202}))
        except (Forbidden, ModelNotFound, RequestInvalid):
            return False, ""
        return status == 201, address if status == 202 else ""

    def _send(self, address: str) -> None:
        """As long as tries bring something: from where the registry has got to, or from the beginning."""
        settings, number, at, best = self._registry.settings, 0, 0, 0
        while True:
            try:
                address = address or self._begin()
                while at < self._layer.size:
                    address, at = self._chunk(address, at)
                self._end(address)
                return
            except Passing as passing:
                number = 1 if at > best else number + 1
                best = max(best, at)
                self._registry.patience.wait(passing, number, settings.tries)
            if self._has():
                return
            address, at = self._state(address)
            self._show(at)

    def _has(self) -> bool:
        """An end whose answer was lost is one."""
        try:
            return self._registry.has_blob(self._place, self._layer.digest)
        except ServerFailed:
            return False

    def _begin(self) -> str:
        """The address of a new upload."""
        question = Question("POST", self._registry.url(self._place, "blobs/uploads/"))
        status, address, _ = self._asked(question, {202})
        if not address:
            raise ServerFailed(f"{self._registry.host.name} does not say where to send {self._layer.digest} ({status})")
        return address

    def _chunk(self, address: str, at: int) -> tuple[str, int]:
        """Sends the next one; gives where the one after it goes, and where that begins."""
        stop = min(at + self._registry.settings.chunk_bytes, self._layer.size)
        headers = {"content-type": "application/octet-stream", "content-range": f"{at}-{stop - 1}"}
        question = Question("PATCH", address, headers, self._body(at, stop), stop - at, anywhere=True)
        _, following, received = self._going_on(question, {202})
        if received is not None and received != stop:
            raise Passing(
                ServerFailed(f"{self._registry.host.name} got {received} bytes of {self._layer.digest}, not {stop}")
            )
        return following or address, stop

    def _state(self, address: str) -> tuple[str, int]:
        """How far an upload has come after something went wrong; ("", 0) if a new one must begin."""
        try:
            _, following, received = (
                self._asked(Question("GET", address, anywhere=True), {204}) if address else ("", "", 0)
            )
        except (Passing, ModelNotFound, RequestInvalid, ServerFailed):
            return "", 0
        # A registry says 0-0 of nothing and of one byte.
        return (following or address, received) if received and 1 < received <= self._layer.size else ("", 0)

    def _end(self, address: str) -> None:
        url = httpx.URL(address).copy_merge_params({"digest": self._layer.digest})
        headers = {"content-type": "application/octet-stream"}
        self._going_on(Question("PUT", str(url), headers, anywhere=True), {201, 204})

    def _going_on(self, question: Question, wanted: set[int]) -> tuple[int, str, int | None]:
        """`_asked`; an upload that the registry has lost, or sees elsewhere than we do, may begin again."""
        status, address, received = self._asked(question, wanted | LOST)
        if status in LOST:
            raise Passing(ServerFailed(f"{self._registry.host.name} has lost what it got of {self._layer.digest}"))
        return status, address, received

    def _asked(self, question: Question, wanted: set[int]) -> tuple[int, str, int | None]:
        """The status of the answer, the address in it, and how many bytes the registry says that it has."""
        with self._registry.answer(question, self._place, wanted) as response:
            found = _RECEIVED.fullmatch(response.headers.get("range", ""))
            received = int(found[1]) + 1 if found else None
            return response.status_code, self._registry.sent_to(response, *ADDRESS) or "", received

    def _body(self, at: int, stop: int) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            with disk_errors(self._path), self._path.open("rb", buffering=0) as file:
                for start in range(at, stop, PIECE_BYTES):
                    file.seek(start)
                    wanted = min(PIECE_BYTES, stop - start)
                    if len(piece := file.read(wanted)) != wanted:
                        raise FileInvalid(self._path, "it has become shorter while it was sent")
                    yield piece
                    self._show(start + wanted)

        return pieces

    def _show(self, completed: int) -> None:
        self._report(Progress.of("pushing", self._layer, completed))
