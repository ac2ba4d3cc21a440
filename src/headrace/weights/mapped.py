"""A file as bytes in memory, and the checks that every format needs before a tensor may point into it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.errors import FileInvalid, ModelNotFound


class Extent(NamedTuple):
    """The bytes `start` to `stop` of a file that a tensor claims."""

    start: int
    stop: int
    name: str


def map_file(path: Path) -> mmap.mmap:
    """The file, mapped read-only; it stays mapped for as long as an array points into it."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelNotFound(f"{path}: there is no such file") from None
    except ValueError:
        raise FileInvalid(path, "the file is empty: download it again") from None
    except OSError as error:
        raise FileInvalid(path, f"the file cannot be read ({error.strerror})") from error


def as_bytes(mapped: mmap.mmap) -> NDArray[np.uint8]:
    """All of a mapped file as uint8, without a copy."""
    return np.frombuffer(mapped, np.uint8)


def files_behind(arrays: Iterable[NDArray[np.uint8]]) -> tuple[mmap.mmap, ...]:
    """The mapped files that arrays are views of, each once; an array in memory has none."""
    found: dict[int, mmap.mmap] = {}
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray | memoryview):
            base = base.base if isinstance(base, np.ndarray) else base.obj
        if isinstance(base, mmap.mmap):
            found[id(base)] = base
    return tuple(found.values())


def let_go(arrays: Iterable[NDArray[np.uint8]]) -> None:
    """What was read of the files behind arrays is no longer counted as this process's memory; it can be read again."""
    for file in files_behind(arrays):
        file.madvise(mmap.MADV_DONTNEED)


def check_whole(path: Path, files: Iterable[mmap.mmap]) -> None:
    """FileInvalid if a mapped file has been cut off since: whoever reads there what is gone is killed (SIGBUS)."""
    for file in files:
        if (lost := len(file) - file.size()) > 0:
            raise FileInvalid(
                path,
                f"the file, another part of it, or a packed copy has lost {lost} bytes since it was opened: "
                "let whatever writes it finish, and load the model again",
            )


def shown(name: object) -> str:
    """A name out of a file as an error may print it: quoted, and not as long as the file would have it."""
    quoted = repr(name[:80] if isinstance(name, str) else name)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def check_extents(path: Path, extents: Iterable[Extent], size_bytes: int) -> None:
    """FileInvalid unless every extent lies within the file and none shares a byte with another."""
    previous = Extent(0, 0, "")
    for extent in sorted(extents):
        if extent.stop > size_bytes:
            raise FileInvalid(
                path,
                f"tensor {shown(extent.name)} ends at byte {extent.stop} but the file has {size_bytes} bytes: "
                "it is cut off, download it again",
            )
        if extent.start < previous.stop:
            both = f"{shown(previous.name)} and {shown(extent.name)}"
            raise FileInvalid(path, f"tensors {both} overlap: the file is damaged")
        previous = extent
