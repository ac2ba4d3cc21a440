"""A model from its registry into the store: what is missing of it, checked, and its name last.

Whatever ends a pull (Ctrl-C, a kill, the power, a server that sends nothing), what was received stays for the next one,
and nothing that is not whole can be found under a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from headrace.errors import Busy, FileInvalid, Forbidden, ModelNotFound, RequestInvalid, Unsupported, UserError
from headrace.library import family, hub, room, runnable
from headrace.library.files import watched
from headrace.library.manifest import Layer, Manifest, parse
from headrace.library.names import TAG, Name
from headrace.library.progress import Progress, Report, short, unwatched
from headrace.library.registry.client import DEFAULTS, Options, Place, Registry, connect
from headrace.library.registry.fetch import Fetch, Incoming
from headrace.library.store import Store
from headrace.library.writing import Writing

MODELS: Final = ("model", "tensor")  # kinds of layers, of which a model has one at least
MOST_AT_ONCE: Final = 100  # blobs: each has two files open, and a process may often have no more than 1024
SHOWN_BYTES: Final = 64 << 20  # checked, between two reports
WAITING: Final = "waiting for another pull"
WAITING_S: Final = 1.0  # for another pull, between two reports


def pull(name: Name, store: Store, report: Report = unwatched, options: Options = DEFAULTS) -> Manifest | None:
    """Brings a model into `store`, or up to date there. What is there already is not fetched again.

    A short name of the family comes from where `family` says, and keeps its name. A repository of Hugging Face without
    GGUF files goes into the cache of its own library (see `hub`), and gives None. `report` is called in this thread;
    what it raises ends the pull. Raises Offline, Unreachable, Forbidden, ModelNotFound, RequestInvalid, Unsupported,
    FileInvalid, StoreRefused, ServerFailed.
    """
    source, report = family.source(name), watched(report)
    with connect(source, options) as registry:
        place = Place(source.repository, str(source))
        report(Progress("pulling manifest"))
        found = _manifest(registry, place, source)
        if isinstance(found, Manifest):
            _install(name, store, found, _Pull(registry, place, store, report))
    if not isinstance(found, Manifest):
        hub.fetch(source, report, otherwise=str(found))
        return None
    report(Progress("success"))
    return found


def _manifest(registry: Registry, place: Place, source: Name) -> Manifest | UserError:
    """Or what Hugging Face says of a repository that has no GGUF file to be had so: it may have safetensors."""
    try:
        raw = registry.manifest(place, source.tag)
    except Forbidden:
        raise
    except (ModelNotFound, RequestInvalid) as error:
        if registry.host.is_hugging_face and source.tag.lower() == TAG:
            return error
        raise
    manifest = parse(raw, source)
    if not any(map(manifest.of, MODELS)):
        raise Unsupported(f"{source} is no model: {registry.host.name} has something else under this name")
    return manifest


def _install(name: Name, store: Store, manifest: Manifest, blobs: _Pull) -> None:
    with store.writing() as session:
        session.keep(layer.digest for layer in manifest.blobs)
        _check_room(store, manifest)
        if (config := manifest.config) is not None and config.size <= runnable.LARGEST_CONFIG:
            blobs.quietly().run([config], session)
            runnable.check(name, store.blob(config.digest))
        blobs.run(manifest.blobs, session)
        blobs.report(Progress("writing manifest"))
        session.put(name, manifest.raw)


class _Pull:
    """The blobs of one model."""

    def __init__(self, registry: Registry, place: Place, store: Store, report: Report) -> None:
        self._registry, self._place = registry, place
        self._store, self.report = store, report

    def quietly(self) -> _Pull:
        """For what is small: all that is told is whether there is something to wait for."""

        def told(step: Progress) -> None:
            if step.status.startswith(WAITING):
                self.report(step)

        return _Pull(self._registry, self._place, self._store, told)

    def run(self, layers: Sequence[Layer], session: Writing) -> None:
        """What turns out damaged is fetched once more: an earlier download may have left it so."""
        missing = sorted((layer for layer in layers if not self._store.has(layer)), key=lambda layer: layer.digest)
        for layer in layers:
            if layer not in missing:
                self.report(Progress.of("pulling", layer, layer.size))
        for start in range(0, len(missing), MOST_AT_ONCE):
            damaged = self._round(missing[start : start + MOST_AT_ONCE], session)
            if damaged and (still := self._round(damaged, session)):
                raise next(iter(still.values()))

    def _round(self, layers: Iterable[Layer], session: Writing) -> dict[Layer, FileInvalid]:
        """Fetches and checks; gives what is not what it should be. Locks are taken in the same order by everybody."""
        with ExitStack() as stack:
            blobs = [self._incoming(layer, session, stack) for layer in sorted(layers, key=lambda layer: layer.digest)]
            blobs.sort(key=lambda blob: -blob.layer.size)
            Fetch(self._registry, self._place).run(blobs, self._show)
            return self._checked(blobs)

    def _incoming(self, layer: Layer, session: Writing, stack: ExitStack) -> Incoming:
        """Whoever waits for another pull says so again and again: its watcher may have left."""

        def waiting() -> None:
            self.report(Progress(f"{WAITING} of {short(layer.digest)}"))

        while True:
            with suppress(Busy):
                partial = session.partial(layer.digest, layer.size, WAITING_S, waiting)
                return Incoming(layer, stack.enter_context(partial))

    def _show(self, blob: Incoming) -> None:
        self.report(Progress.of("pulling", blob.layer, blob.partial.received))

    def _checked(self, blobs: Sequence[Incoming]) -> dict[Layer, FileInvalid]:
        damaged = dict[Layer, FileInvalid]()
        total, before = sum(blob.layer.size for blob in blobs), 0
        for blob in blobs:
            self.report(Progress("verifying sha256 digest", None, total, before))
            try:
                blob.partial.commit(self._checking(before, total))
            except FileInvalid as error:
                damaged[blob.layer] = error
            before += blob.layer.size
        return damaged

    def _checking(self, before: int, total: int) -> Callable[[int, int], None]:
        def watch(done: int, _: int) -> None:
            if done % SHOWN_BYTES == 0:
                self.report(Progress("verifying sha256 digest", None, total, before + done))

        return watch


def _check_room(store: Store, manifest: Manifest) -> None:
    """For what is to be fetched, and for the packed copies of the weights in it, before the first byte of either."""
    missing = [layer for layer in manifest.blobs if not store.has(layer)]
    if not missing:
        return
    fetched = sum(layer.size - store.received(layer) for layer in missing)
    packed = sum(layer.size for layer in missing if layer.kind in MODELS)
    room.check(store.root, fetched, packed)
