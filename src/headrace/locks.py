"""Locks between processes: the kernel lets go of them when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from headrace.errors import Busy

POLL_S: Final = 0.05  # how often a lock that others hold is tried again


@contextmanager
def locked(path: Path, wait_s: float | None = None, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Holds `path`, made where it is missing, alone among all processes; gives the open file.

    `waiting` is called once if others hold it. Raises Busy after `wait_s` seconds (None: never).
    """
    handle = _take(path, wait_s, waiting)
    try:
        yield handle
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds it now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _try(handle)
    finally:
        os.close(handle)


def _take(path: Path, wait_s: float | None, waiting: Callable[[], None]) -> int:
    until = None if wait_s is None else time.monotonic() + wait_s
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            if _try(handle) and _is_still(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if until is not None and time.monotonic() >= until:
            raise Busy(f"{path.name}: another process is at it: try again later")
        if not told:
            waiting()
            told = True
        time.sleep(POLL_S)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether the name still means this file: who had it before may have taken the name away."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
