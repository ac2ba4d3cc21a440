"""A disk that is really full: a small file system of its own, or, where none may be mounted, writes that say so."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.library.steps import WRITES, Cut, Steps


@contextmanager
def small_disk(
    folder: Path, size_bytes: int, monkeypatch: pytest.MonkeyPatch, *, mounts: bool = True
) -> Iterator[Callable[[], None]]:
    """`folder` is on a disk of this size; gives what makes it one of 16 MiB. Nobody asks before if there is room."""
    monkeypatch.setattr("headrace.library.files.SPARE_BYTES", -(1 << 30))  # as if others had filled it meanwhile
    folder.mkdir()
    if mounts and _mount(folder, f"size={size_bytes}"):
        try:
            yield lambda: _must(_mount(folder, "remount,size=16m"))
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    left = [size_bytes]
    Steps(1, _limited(left), monkeypatch.setattr)
    yield lambda: left.__setitem__(0, 16 << 20)


def _mount(folder: Path, options: str) -> bool:
    with suppress(OSError):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


def _must(done: bool) -> None:
    assert done


def _limited(left: list[int]) -> Cut:
    def cut(name: str, call: Callable[..., Any], given: Any, named: Any) -> Any:
        if name in WRITES:
            left[0] -= sum(len(one) for one in given if isinstance(one, bytes | bytearray | memoryview))
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*given, **named)

    return cut
