"""A blob on its way: a sparse file of its final size, and a journal of the ranges that are known to be on the disk.

The journal follows the data: a range is written down only when its bytes are synced. So what it says survives a kill
and a loss of power, and what came after it is fetched again. The digest has the last word before the blob is one.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, Final

from headrace.errors import FileInvalid, RequestInvalid, UserError
from headrace.library.files import (
    Progress,
    disk_errors,
    is_plain_file,
    read_small,
    sha256_of,
    silent,
    sync,
    sync_folder,
    write_whole,
)

CHECKPOINT_BYTES: Final = 32 << 20  # received, before they are written down
LARGEST_JOURNAL: Final = 4 << 20

Range = tuple[int, int]  # [start, stop) in bytes


class Ranges:
    """Disjoint half-open ranges of bytes, in order."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Ranges that touch become one."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = first
        while last < len(self._starts) and self._starts[last] <= stop:
            start, stop = min(start, self._starts[last]), max(stop, self._stops[last])
            last += 1
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def missing(self, size: int) -> list[Range]:
        edges = [0, *(edge for pair in self for edge in pair), size]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    @property
    def total(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def __iter__(self) -> Any:
        return iter(zip(self._starts, self._stops, strict=True))

    def __len__(self) -> int:
        return len(self._starts)


class Partial:
    """A blob that is being received, by this process alone. Its methods may be called from several threads.

    Made by `Writing.partial`. Every method raises StoreRefused where the disk does.
    """

    def __init__(self, digest: str, size: int, folder: Path, blob: Path) -> None:
        self.digest, self.size = digest, size
        self._data, self._journal = places(folder, digest)
        self._blob = blob
        self._guard, self._journal_guard = Lock(), Lock()
        self._unwritten = 0  # bytes since the last checkpoint
        self.is_whole = is_plain_file(blob, size)  # somebody else was faster: there is nothing to do but `commit`
        self._ranges = Ranges([(0, size)] if self.is_whole else ())
        self._handle = -1
        if not self.is_whole:
            with disk_errors(self._data):
                self._open()

    @property
    def received(self) -> int:
        """Bytes that need not be fetched, or not again."""
        with self._guard:
            return self._ranges.total

    def missing(self) -> list[Range]:
        """What is still to be fetched, in order."""
        with self._guard:
            return self._ranges.missing(self.size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Bytes of the blob from `offset` on. Raises RequestInvalid for what lies outside of it."""
        view = memoryview(data).cast("B")
        stop = offset + len(view)
        if offset < 0 or stop > self.size or self._handle < 0:
            raise RequestInvalid(f"bytes {offset} to {stop} do not belong to a blob of {self.size} bytes")
        with self._guard, disk_errors(self._data):
            self._write(offset, view)
            self._ranges.add(offset, stop)
            self._unwritten += len(view)
            due = self._unwritten >= CHECKPOINT_BYTES
        if due:
            self.checkpoint()

    def _write(self, offset: int, view: memoryview) -> None:
        while view:
            written = os.pwrite(self._handle, view, offset)
            offset, view = offset + written, view[written:]

    def checkpoint(self) -> None:
        """What was received until now survives from now on."""
        with self._journal_guard, disk_errors(self._data):
            with self._guard:
                ranges, self._unwritten = list(self._ranges), 0
            sync(self._handle)
            self._write_journal(ranges)

    def commit(self, progress: Progress = silent) -> Path:
        """Checks the digest and makes it a blob; `progress` watches the checking. Gives the blob's path.

        Raises FileInvalid if bytes are missing; and if the digest is another one: then all of them are dropped.
        """
        if self.is_whole:
            self._journal.unlink(missing_ok=True)  # of one who was killed on the last step
            return self._blob
        if left := sum(stop - start for start, stop in self.missing()):
            raise FileInvalid(self.digest, f"{left} of {self.size} bytes are missing: pull it again")
        with disk_errors(self._data):
            with self._journal_guard:
                sync(self._handle)
            if (found := sha256_of(self._data, progress)) != self.digest:
                self.discard()
                raise FileInvalid(
                    self.digest, f"what was received has the digest {found}, and was dropped: pull it again"
                )
            self._close()
            self._data.replace(self._blob)
            sync_folder(self._blob.parent)
            self.is_whole = True
            self._journal.unlink(missing_ok=True)
        return self._blob

    def discard(self) -> None:
        """Forgets all that was received."""
        self._close()
        with disk_errors(self._data):
            self._data.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Keeps what was received for the next time."""
        if self._handle >= 0:
            try:
                self.checkpoint()
            finally:
                self._close()

    def _close(self) -> None:
        """While nobody writes or syncs: the number of a closed file is soon that of another one."""
        with self._journal_guard, self._guard:
            handle, self._handle = self._handle, -1
            if handle >= 0:
                os.close(handle)

    def _open(self) -> None:
        known = journal_of(self._data, self._journal, self.digest, self.size)
        self._handle = os.open(self._data, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        if known is None:
            os.ftruncate(self._handle, 0)  # so that nothing of another download shines through
            os.ftruncate(self._handle, self.size)
            self._journal.unlink(missing_ok=True)
        else:
            self._ranges = known

    def _write_journal(self, ranges: list[Range]) -> None:
        fields = {"digest": self.digest, "size": self.size, "ranges": ranges}
        write_whole(self._journal, json.dumps(fields).encode(), self._journal.with_suffix(".part"))


def places(folder: Path, digest: str) -> tuple[Path, Path]:
    """The data and the journal of a blob on its way."""
    data = folder / digest.replace(":", "-")
    return data, data.with_suffix(".journal")


def journal_of(data: Path, journal: Path, digest: str, size: int | None = None) -> Ranges | None:
    """The ranges that are on the disk; None if that is not known, or if it is of another size."""
    try:
        fields = json.loads(read_small(journal, LARGEST_JOURNAL))
    except (OSError, UserError, ValueError, RecursionError):
        return None
    match fields:
        case {"digest": str(whose), "size": int(whole), "ranges": [*ranges]} if whose == digest:
            pass
        case _:
            return None
    if size not in (None, whole) or not is_plain_file(data, whole):
        return None
    sound = all(_is_range(one, whole) for one in ranges)
    return Ranges((start, stop) for start, stop in ranges) if sound else None


def _is_range(one: object, whole: int) -> bool:
    match one:
        case [int(start), int(stop)]:
            return 0 <= start < stop <= whole
    return False
