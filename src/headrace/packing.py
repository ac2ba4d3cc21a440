"""Packed weights of the library's models: made when a model arrives, checked with it, and gone when its file is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headrace import checkpoint
from headrace.engine import packed
from headrace.errors import FileInvalid, ModelNotFound, Unsupported
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress, Report
from headrace.library.store import Store

SUCCESS: Final = "success"
_log = logging.getLogger(__name__)


def bring(library: Library, name: Name, make: Callable[[Report], object], report: Report) -> None:
    """A model into the library, by `make`. It is a success, and that the last step, when its next start will be fast.

    Raises what `make` does.
    """
    make(lambda step: report(step) if step.status != SUCCESS else None)
    pack(library, name, report)
    collect(library.store)
    report(Progress(SUCCESS))


def pack(library: Library, name: Name, report: Report) -> None:
    """So that its first start is as fast as any. What cannot run here stays all the same: it is reported, and why."""
    path = ""
    try:
        found = library.find(name)
        path = str(found.path)
        source = checkpoint.read(found.path, found.preset)
    except (FileInvalid, ModelNotFound, Unsupported) as error:
        said = str(error).replace(path, str(name)) if path else str(error)  # a blob's path tells nobody anything
        report(Progress(f"it cannot run here: {said}"))
        return
    packed.pack(source.path, source.weights, lambda done, total: report(Progress("packing", None, total, done)))


def verify(library: Library, name: Name) -> list[str]:
    """What is damaged in its packed weights, by name; they are taken away then, and the next start makes them anew."""
    with suppress(FileInvalid, Unsupported):  # what cannot run has none
        path = library.find(name).path
        return packed.verify(path) if path.is_file() else []
    return []


def collect(store: Store) -> int:
    """Takes away what no model needs, of the store and of the packed weights. Gives the bytes that are free again.

    Raises StoreRefused.
    """
    return store.collect() + collect_packed()


def collect_packed() -> int:
    """Of the packed weights alone: they are no reason to fail."""
    try:
        return packed.collect()
    except OSError as error:
        _log.warning("packed weights that nobody needs are still there: %s", error)
        return 0
