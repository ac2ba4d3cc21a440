"""Counts the calls by which this process changes files, or asks for that, and cuts it off at one of them.

Calls of `os` are counted, and opening and writing of Python's own binary files. So "at any step" can be said of each.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from functools import wraps
from random import Random
from typing import Any

CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "replace", "unlink", "mkdir", "rmdir", "close")
WRITES = ("write", "pwrite")
GROWING = ("open to write", "write", "pwrite", "fsync", "ftruncate", "replace", "mkdir")  # what needs room on the disk

Cut = Callable[[str, Callable[..., Any], Any, Any], Any]


class Steps:
    """At step `last` and those after it, `cut` is called instead; 0 never. `patch` is what sets an attribute."""

    def __init__(
        self, last: int = 0, cut: Cut | None = None, patch: Callable[[Any, str, Any], object] = setattr
    ) -> None:
        self.count, self._last, self._cut = 0, last, cut
        self.largest = (0, 0)  # bytes that one step wrote, and which step it was
        for name in CALLS:
            patch(os, name, self._counted(name, getattr(os, name)))
        opened = self._opening(io.open, self._file())
        patch(io, "open", opened)
        patch(builtins, "open", opened)

    def tell(self, *_: object) -> None:
        """A step of whoever reports what it does."""
        self._step("tell", lambda: None, (), {})

    def _step(self, name: str, call: Callable[..., Any], given: Any, named: Any) -> Any:
        self.count += 1
        if name in WRITES:
            self.largest = max(self.largest, (sum(map(len, filter(_is_data, given))), self.count))
        if self._cut and 0 < self._last <= self.count:
            return self._cut(name, call, given, named)
        return call(*given, **named)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def step(*given: Any, **named: Any) -> Any:
            to_write = name == "open" and (named.get("flags") or given[1]) & (os.O_WRONLY | os.O_RDWR)
            return self._step("open to write" if to_write else name, call, given, named)

        return step

    def _file(self) -> type[io.FileIO]:
        steps = self

        class File(io.FileIO):
            def write(self, data: Any) -> Any:
                return steps._step("write", super().write, (data,), {})

        return File

    def _opening(self, call: Callable[..., Any], kind: type[io.FileIO]) -> Callable[..., Any]:
        @wraps(call)
        def opened(file: Any, mode: str = "r", buffering: int = -1, *given: Any, **named: Any) -> Any:
            if "b" not in mode or not set(mode) & set("wax+"):
                return call(file, mode, buffering, *given, **named)
            raw = self._step("open to write", kind, (file, mode.replace("b", "")), {})
            if buffering == 0:
                return raw
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        return opened


def halved(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is written, less its second half."""
    return tuple(one[: len(one) // 2] if _is_data(one) else one for one in given)


def _is_data(one: object) -> bool:
    return isinstance(one, bytes | bytearray | memoryview)


def killed(rng: Random) -> Cut:
    """Kills this process: before the step, after it, or with half of the bytes written."""

    def cut(name: str, call: Callable[..., Any], given: Any, named: Any) -> None:
        try:
            if name in WRITES:
                call(*halved(given), **named)
            elif rng.random() < 0.5:
                call(*given, **named)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    return cut


def full(name: str, call: Callable[..., Any], given: Any, named: Any) -> Any:
    """The disk has no room left: what would take some fails, and half of a last write is there."""
    if name in WRITES:
        call(*halved(given), **named)
    if name in GROWING:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return call(*given, **named)
