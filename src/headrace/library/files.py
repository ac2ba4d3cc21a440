"""Files as the library handles them: written whole or not at all, never through a link."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, ParamSpec

from headrace.errors import FileInvalid, StoreRefused
from headrace.machine import format_bytes

PIECE_BYTES: Final = 1 << 20  # read at a time
SPARE_BYTES: Final = 64 << 20  # of a disk, that a download leaves free
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADVICE = (
    ((errno.EACCES, errno.EPERM), "mend its rights"),
    ((errno.EROFS,), "set HEADRACE_HOME to a folder that can be written to"),
    ((errno.ELOOP, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY), "move it away"),
    ((errno.ENOLCK, errno.ENOTSUP), "put the library on a disk that has file locks, with HEADRACE_HOME"),
)

_WATCHER: Final = "raised by whoever watches how far it has come"

P = ParamSpec("P")
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def silent(done: int, total: int) -> None:
    """For whoever does not watch."""


def watched(tell: Callable[P, None]) -> Callable[P, None]:
    """The same, of which `disk_errors` lets pass what it raises: a terminal that is gone is no fault of the disk's."""

    def told(*given: P.args, **named: P.kwargs) -> None:
        try:
            tell(*given, **named)
        except OSError as error:
            error.add_note(_WATCHER)
            raise

    return told


def is_the_watchers(error: OSError) -> bool:
    """Whether it comes out of what `watched` was given."""
    return _WATCHER in getattr(error, "__notes__", ())


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the operating system refuses becomes StoreRefused: one sentence about `path`."""
    try:
        yield
    except OSError as error:
        if is_the_watchers(error):
            raise
        place = error.filename2 or error.filename or path  # where something was to go, else what it was
        if error.errno in _NO_ROOM:
            raise StoreRefused(
                f"{path}: there is no room left on this disk: free some space, or set HEADRACE_HOME to a folder on "
                "another one"
            ) from None
        advice = next((advice for errors, advice in _ADVICE if error.errno in errors), "is the disk sound?")
        raise StoreRefused(f"{place} cannot be read or written ({error.strerror or error}): {advice}") from None


def room_for(folder: Path, size_bytes: int) -> None:
    """Raises StoreRefused if the disk of `folder`, which need not exist yet, has no room for that much."""
    place = folder.absolute()
    with disk_errors(place):
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
    if free < size_bytes + SPARE_BYTES:
        raise StoreRefused(
            f"{folder} has {format_bytes(free)} free, but {format_bytes(size_bytes + SPARE_BYTES)} are needed, with "
            "some to spare: free some space, or set HEADRACE_HOME to a folder on another disk"
        )


def make_folder(root: Path, *parts: str) -> Path:
    """`root`/parts, made where it is missing. `root` may be a link, but nothing below: a link could lead anywhere."""
    folder = root
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        folder = folder / part
        with suppress(FileExistsError):
            folder.mkdir()
            sync_folder(folder.parent)
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise StoreRefused(f"{folder} should be a folder and is a link or a file: move it away")
    return folder


def is_plain_file(path: Path, size: int | None = None, *, follow: bool = False) -> bool:
    """Whether it is a file, of that size; and one of its own, not a link, unless that is to be followed."""
    with suppress(OSError):
        found = path.stat(follow_symlinks=follow)
        return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)
    return False


def write_whole(path: Path, data: bytes, part: Path) -> None:
    """`path` holds `data`, or what it held before, whenever the power goes. `part` is a name on the same disk."""
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_small(path: Path, most_bytes: int) -> bytes:
    """Raises FileInvalid for more than that, or for what is no file; OSErrors as they are."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe must not make us wait
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileInvalid(path, "this is no file")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise FileInvalid(path, f"it has more than {most_bytes} bytes, which is the most that is read")
    return data


def read_object(path: Path, most_bytes: int) -> dict[str, Any]:
    """The JSON object in a small file. Raises what `read_small` does."""
    try:
        found = json.loads(read_small(path, most_bytes))
    except (ValueError, RecursionError):
        raise FileInvalid(path, "it is not JSON") from None
    if not isinstance(found, dict):
        raise FileInvalid(path, "it is not a JSON object")
    return found


def sha256_of(path: Path, progress: Progress = silent) -> str:
    """The digest of a file, as "sha256:..."."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            progress(done, total)
    return f"sha256:{digest.hexdigest()}"


def sync(handle: int) -> None:
    """On the disk itself, not only on its way there."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync leaves it in the disk's own memory
        with suppress(OSError):  # not on every file system
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """So that a name that was just given or taken stays so."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
