"""The store: models by name, each a manifest that names its blobs. Laid out as Ollama's, which this code reads too.

    manifests/<host>/<namespace>/<model>/<tag>   blobs/sha256-<64 digits>   and, in ours alone,
    partial/   blobs on their way                sessions/   files being written, and pins (see `writing`)
    lock       held for a moment by whoever changes what is referred to

Blobs come before the manifest that names them, and go after it. So what is listed is whole at every moment, and what a
killed process leaves behind is in nobody's way until `repair` takes it away.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Final

from headrace.errors import Busy, FileInvalid, HeadraceError, ModelNotFound, RequestInvalid, StoreRefused
from headrace.library.files import (
    Progress,
    disk_errors,
    is_plain_file,
    make_folder,
    read_small,
    room_for,
    sha256_of,
    silent,
    sync_folder,
    watched,
)
from headrace.library.manifest import LARGEST_BYTES, Layer, Manifest, digests_in, is_digest, parse
from headrace.library.names import Name
from headrace.library.partial import journal_of, places
from headrace.library.writing import PINS, Writing
from headrace.locks import is_held, locked

KEPT_S: Final = 7 * 86_400  # what nothing refers to, and what is left of a download, stays so long for its resumption
FOLDERS: Final = ("blobs", "manifests", "partial", "sessions")
BLOCK_BYTES: Final = 512  # of st_blocks, everywhere


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of the store. `problem` says in a sentence why it cannot be used, where it cannot."""

    name: Name
    digest: str  # of the manifest; "" where it cannot be read
    size_bytes: int
    modified: datetime
    problem: str | None = None


class Store:
    """`root` need not exist: what is not there is empty. `can_write` is False for a store that belongs to others."""

    def __init__(self, root: Path, *, can_write: bool = True) -> None:
        self.root, self.can_write = root, can_write
        self.manifests, self.blobs = root / "manifests", root / "blobs"

    # --- reading

    def names(self) -> list[Name]:
        """All models, in order. What has no name that could be asked for is left out."""
        return sorted(name for name, _ in self._placed())

    def listed(self) -> list[Listed]:
        """All models with their figures; those that are broken too."""
        found = (self._listed(name, place) for name, place in self._placed())
        return sorted(filter(None, found), key=lambda one: one.name)

    def manifest(self, name: Name) -> Manifest:
        """Raises ModelNotFound, which suggests names that are near; FileInvalid."""
        return parse(self._raw(name), name)

    def has_model(self, name: Name) -> bool:
        with disk_errors(self.root):
            return self.place_of(name).is_file()

    def stamp(self, name: Name) -> tuple[int, int] | None:
        """Another one after each time that the model was put there, the same or not; None if it is not there.

        Who finds something missing, and not the stamp of before, has looked while others were at it.
        """
        return _stamp(self.place_of(name))

    def has(self, layer: Layer) -> bool:
        """Whether the blob is here, whole. In a store of our own links do not count: they may lead to what changes."""
        return self.has_blob(layer.digest, layer.size)

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """The same by its digest, of any size where none is said. Raises RequestInvalid for what is no digest."""
        return is_plain_file(self.blob(digest), size, follow=not self.can_write)

    def modified(self, name: Name) -> datetime:
        """When a model got this name. Raises ModelNotFound."""
        with disk_errors(self.root):
            try:
                return datetime.fromtimestamp(self.place_of(name).stat().st_mtime, UTC)
            except (FileNotFoundError, NotADirectoryError):
                raise ModelNotFound(self._not_found(name)) from None

    def blob(self, digest: str) -> Path:
        """Where a blob is, or would be. Raises RequestInvalid for what is no digest."""
        if not is_digest(digest):
            raise RequestInvalid(f"{digest!r} is no digest: expected sha256: and 64 digits")
        return self.blobs / digest.replace(":", "-")

    def received(self, layer: Layer) -> int:
        """Bytes of a blob that need not be fetched: all, or what is left of an earlier download."""
        if self.has(layer):
            return layer.size
        known = journal_of(*places(self.root / "partial", layer.digest), layer.digest, layer.size)
        return known.total if known else 0

    def room_for(self, size_bytes: int) -> None:
        """Raises StoreRefused if the disk has no room for that much more."""
        room_for(self.root, size_bytes)

    def place_of(self, name: Name) -> Path:
        """Where its manifest is, or else would be. Its spelling may differ: Ollama keeps names as typed."""
        spelled = self.manifests / name.path
        with disk_errors(self.root):
            if spelled.is_file():
                return spelled
        return next((place for other, place in self._placed() if other == name), spelled)

    def spelled(self, name: Name) -> Name:
        """The name as it is spelled here."""
        return Name.of_path(PurePosixPath(*self.place_of(name).parts[-4:]))

    # --- changing

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """A session that brings models in. Raises StoreRefused where the folder does not allow it."""
        self._check_writable()
        with ExitStack() as stack:
            with disk_errors(self.root), self.held():
                self._bury_sessions()
                folder = make_folder(self.root, "sessions") / token_hex(8)
                folder.mkdir()
                pins = stack.enter_context(locked(folder / PINS))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            yield Writing(self, folder, pins)

    def copy(self, source: Name, destination: Name) -> Manifest:
        """Another name for the same model. Raises ModelNotFound, FileInvalid."""
        with self.writing() as session:
            return session.put(destination, session.keep_model(source).raw)

    def remove(self, name: Name) -> int:
        """Takes a model away, and the blobs that it alone has. Gives the bytes that are free now. Raises ModelNotFound.

        A model that cannot be read can be removed too.
        """
        self._check_writable()
        with disk_errors(self.root), self.held():
            try:
                raw = self._raw(name)
            except FileInvalid:
                raw = b""
            place = self.place_of(name)
            make_folder(self.root, *place.relative_to(self.root).parts[:-1])
            place.unlink()
            sync_folder(place.parent)
            _remove_empty(place.parent, self.manifests)
            return self._drop(digests_in(raw))

    def collect(self, kept_s: float = KEPT_S) -> int:
        """Takes away blobs that no model has, and remains of downloads, if they are older than `kept_s` seconds.

        Whatever is being pulled, made or received now stays. Gives the bytes that are free now.
        """
        self._check_writable()
        before = time.time() - kept_s
        with self._held_if_there() as is_there:
            if not is_there:
                return 0
            old = {digest for digest, path in self._present() if path.lstat().st_mtime <= before}
            return self._drop(old) + self._drop_remains(before)

    def repair(self) -> int:
        """Takes away what processes left behind that were killed while they wrote. Gives the bytes that are free now.

        What was received of a blob is not among it: the next pull goes on from there.
        """
        self._check_writable()
        with self._held_if_there() as is_there:
            return self._bury_sessions() if is_there else 0

    def renew(self, digest: str) -> bool:
        """Whether a blob is here; `collect` then leaves it as long as one that has just come. Raises RequestInvalid."""
        with disk_errors(self.root), suppress(FileNotFoundError):
            if self.has_blob(digest):
                os.utime(self.blob(digest), follow_symlinks=False)
                return True
        return False

    def drop(self, layer: Layer) -> None:
        """Takes a blob away that was found damaged, whoever refers to it: the next pull brings it again."""
        self._check_writable()
        with disk_errors(self.root), self.held():
            self.blob(layer.digest).unlink(missing_ok=True)

    def verify(self, name: Name, progress: Progress = silent) -> list[tuple[Layer, str]]:
        """The blobs of a model that are not what they should be, and what is wrong with each. Raises ModelNotFound."""
        stamp, manifest = self.stamp(name), self.manifest(name)
        wrong, done = list[tuple[Layer, str]](), 0
        for layer in manifest.blobs:
            if problem := self._problem(layer, watched(_after(done, manifest.size_bytes, progress))):
                wrong.append((layer, problem))
            done += layer.size
            progress(done, manifest.size_bytes)
        if wrong and self.stamp(name) != stamp:  # removed or replaced meanwhile
            return self.verify(name, progress)
        return wrong

    @contextmanager
    def held(self) -> Iterator[None]:
        """Alone among those who change what is referred to: for moments only."""
        for folder in FOLDERS:
            make_folder(self.root, folder)
        with locked(self.root / "lock"):
            yield

    # --- inside

    @contextmanager
    def _held_if_there(self) -> Iterator[bool]:
        with disk_errors(self.root):
            if not self.root.is_dir():
                yield False
                return
            with self.held():
                yield True

    def _check_writable(self) -> None:
        if not self.can_write:
            raise StoreRefused(f"{self.root} belongs to another program: Headrace does not change it")

    def _raw(self, name: Name) -> bytes:
        with disk_errors(self.root):
            try:
                return read_small(self.place_of(name), LARGEST_BYTES)
            except (FileNotFoundError, NotADirectoryError):
                raise ModelNotFound(self._not_found(name)) from None

    def _problem(self, layer: Layer, progress: Progress) -> str | None:
        if not self.has(layer):
            return "it is missing or not whole"
        with disk_errors(self.blob(layer.digest)):
            found = sha256_of(self.blob(layer.digest), progress)
        return None if found == layer.digest else f"its digest is {found}"

    def _sessions(self) -> list[Path]:
        """What else may lie there, as a file browser's own files or a link, is left alone."""
        return [folder for folder in _entries(self.root / "sessions") if _is_folder(folder)]

    def _bury_sessions(self) -> int:
        freed = 0
        for folder in self._sessions():
            if not is_held(folder / PINS):
                freed += sum(map(_size, _entries(folder)))
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def _places(self) -> list[Path]:
        """Of all manifests, whatever their names."""
        places = [self.manifests]
        with disk_errors(self.root):
            for _ in range(4):
                places = [entry for place in places for entry in _entries(place)]
            return [place for place in places if place.is_file()]

    def _placed(self) -> Iterator[tuple[Name, Path]]:
        for place in self._places():
            with suppress(RequestInvalid):
                yield Name.of_path(PurePosixPath(*place.parts[-4:])), place

    def _not_found(self, name: Name) -> str:
        known = [str(one) for one in self.names()]
        if near := get_close_matches(str(name), known, n=3):
            return f"model {str(name)!r} not found: did you mean {' or '.join(near)}?"
        advice = "`headrace list` shows those that are here" if known else f"`headrace pull {name}` may bring it"
        return f"model {str(name)!r} not found: {advice}"

    def _listed(self, name: Name, place: Path) -> Listed | None:
        """None for what is gone by now."""
        modified = datetime.fromtimestamp(0, UTC)
        try:
            stamp, modified = _stamp(place), datetime.fromtimestamp(place.stat().st_mtime, UTC)
            manifest = parse(read_small(place, LARGEST_BYTES), name)
        except FileNotFoundError:
            return None
        except OSError as error:
            return Listed(name, "", 0, modified, f"its manifest cannot be read ({error.strerror}): mend its rights")
        except HeadraceError as error:
            return Listed(name, "", 0, modified, str(error))
        missing = [layer for layer in manifest.blobs if not self.has(layer)]
        if missing and _stamp(place) != stamp:  # removed or replaced between the two looks
            return self._listed(name, place)
        problem = f"{len(missing)} of its {len(manifest.blobs)} blobs are missing: pull it again" if missing else None
        return Listed(name, manifest.digest, manifest.size_bytes, modified, problem)

    def _present(self) -> Iterator[tuple[str, Path]]:
        for path in _entries(self.blobs):
            if is_digest(digest := path.name.replace("-", ":", 1)):
                yield digest, path

    def _drop(self, digests: Iterable[str]) -> int:
        """Those that no model has and no session keeps."""
        gone = set(digests) - self._referred() - self._pinned()
        freed = 0
        for digest in gone:
            path = self.blob(digest)
            freed += _size(path)
            path.unlink(missing_ok=True)
        return freed

    def _referred(self) -> set[str]:
        digests = set[str]()
        for place in self._places():
            with suppress(FileNotFoundError, FileInvalid):
                digests |= digests_in(read_small(place, LARGEST_BYTES))
        return digests

    def _pinned(self) -> set[str]:
        digests = set[str]()
        for folder in self._sessions():
            with suppress(FileNotFoundError):
                if is_held(folder / PINS):
                    digests |= digests_in((folder / PINS).read_bytes())
        return digests

    def _drop_remains(self, before: float) -> int:
        """Of downloads that nobody is at."""
        folder, freed = self.root / "partial", 0
        for stem in sorted({path.stem for path in _entries(folder)}):
            lock = folder / f"{stem}.lock"
            with suppress(Busy), locked(lock, wait_s=0):
                remains = [path for path in _entries(folder) if path.stem == stem and path != lock]
                if all(path.lstat().st_mtime <= before for path in remains):
                    freed += sum(path.lstat().st_blocks * BLOCK_BYTES for path in remains)
                    for path in remains:
                        path.unlink()
                lock.unlink()
        return freed


def _after(before: int, total: int, progress: Progress) -> Progress:
    return lambda done, _: progress(before + done, total)


def _stamp(place: Path) -> tuple[int, int] | None:
    try:
        found = place.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_folder(path: Path) -> bool:
    """One of its own, not a link."""
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _size(path: Path) -> int:
    """0 for what is gone: a session that ends takes its files away itself."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
