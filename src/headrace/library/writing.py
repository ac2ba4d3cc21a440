"""What brings models into a store: a session that keeps what it has made or found from being collected meanwhile.

A session has a folder of its own, with files that are being written, and a file `pins` that lists the blobs which must
stay. The process holds a lock on `pins` for as long as it lives: so everybody sees which sessions are dead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from headrace.errors import FileInvalid, RequestInvalid
from headrace.library.files import (
    Progress,
    disk_errors,
    is_plain_file,
    make_folder,
    sha256_of,
    silent,
    sync,
    sync_folder,
    write_whole,
)
from headrace.library.manifest import LARGEST_BLOB, Layer, Manifest, digest_of, is_digest, parse
from headrace.library.names import Name
from headrace.library.partial import Partial
from headrace.locks import locked

if TYPE_CHECKING:
    from headrace.library.store import Store

PINS: Final = "pins"


class Writing:
    """A session, made by `Store.writing`. Every method raises StoreRefused where the disk does."""

    def __init__(self, store: Store, folder: Path, pins: int) -> None:
        self._store, self._folder, self._pins = store, folder, pins

    def keep(self, digests: Iterable[str]) -> None:
        """These blobs stay until the session ends, those that are here and those that come. RequestInvalid for what is
        no digest.
        """
        wanted = list(digests)
        for digest in wanted:
            if not is_digest(digest):
                raise RequestInvalid(f"{digest!r} is no digest: expected sha256: and 64 digits")
        with disk_errors(self._folder), self._store.held():
            left = "".join(f"{digest}\n" for digest in wanted).encode()
            while left:
                left = left[os.write(self._pins, left) :]

    def keep_model(self, name: Name) -> Manifest:
        """A model of the store, whose blobs stay until the session ends. Raises ModelNotFound, FileInvalid."""
        while True:
            manifest = self._store.manifest(name)
            self.keep(layer.digest for layer in manifest.blobs)
            if self._store.manifest(name).raw == manifest.raw:  # else it went, or changed, before they were kept
                return manifest

    @contextmanager
    def partial(
        self, digest: str, size: int, wait_s: float | None = None, waiting: Callable[[], None] = lambda: None
    ) -> Iterator[Partial]:
        """A blob to be received, where it was left the last time. What is not committed stays for the next time.

        Only one at a time receives a blob: `waiting` is called if another is at it, and Busy is raised after `wait_s`
        seconds (None: never). Look at `is_whole` then: there may be nothing left to do.
        """
        if not 0 <= size <= LARGEST_BLOB:
            raise RequestInvalid(f"a blob has from 0 to {LARGEST_BLOB} bytes, not {size}")
        self.keep([digest])
        with ExitStack() as stack:
            with disk_errors(self._store.root):
                folder, blob = make_folder(self._store.root, "partial"), self._blob(digest)
                lock = folder / f"{blob.name}.lock"
                stack.enter_context(locked(lock, wait_s, waiting))
            stack.callback(lock.unlink, missing_ok=True)
            partial = Partial(digest, size, folder, blob)
            stack.callback(partial.close)
            yield partial

    def add(self, data: bytes, media_type: str) -> Layer:
        """A small blob."""
        layer = Layer(media_type, digest_of(data), len(data))
        self.keep([layer.digest])
        if not self._store.has(layer):
            with disk_errors(self._folder):
                write_whole(self._blob(layer.digest), data, self._scratch())
        return layer

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """The name of a file to write, on the disk of the store; it is gone afterwards unless it was adopted."""
        path = self._scratch()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder on the disk of the store; it is gone afterwards, with all that is in it."""
        path = self._scratch()
        with disk_errors(path):
            path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def adopt(self, path: Path, media_type: str, digest: str | None = None, progress: Progress = silent) -> Layer:
        """Makes a file of `scratch` a blob; `progress` watches its digest being computed.

        Raises FileInvalid if that is not the `digest` which is expected.
        """
        with disk_errors(path):
            if not is_plain_file(path):
                raise FileInvalid(path, "this is no file")
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                sync(handle)
            finally:
                os.close(handle)
            layer = Layer(media_type, sha256_of(path, progress), path.lstat().st_size)
            if digest is not None and layer.digest != digest:
                raise FileInvalid(digest, f"what was received has the digest {layer.digest}")
            self.keep([layer.digest])
            blob = self._blob(layer.digest)
            path.replace(blob)
            sync_folder(blob.parent)
        return layer

    def put(self, name: Name, raw: bytes) -> Manifest:
        """Gives a manifest its name: the last step. Raises FileInvalid if it is no manifest, or a blob is missing."""
        manifest = parse(raw, name)
        with disk_errors(self._store.root), self._store.held():
            for layer in manifest.blobs:
                if not self._store.has(layer):
                    raise FileInvalid(name, f"its manifest names {layer.digest}, which is not here: pull it again")
            place = self._store.place_of(name)
            make_folder(self._store.root, "manifests", *place.relative_to(self._store.manifests).parts[:-1])
            write_whole(place, raw, self._scratch())
        return manifest

    def _blob(self, digest: str) -> Path:
        return make_folder(self._store.root, "blobs") / digest.replace(":", "-")

    def _scratch(self) -> Path:
        return self._folder / token_hex(8)
