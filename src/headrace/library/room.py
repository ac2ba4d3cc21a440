"""Whether there is room for what a pull brings: what is fetched, and the packed copies of the weights in it."""

from __future__ import annotations

from pathlib import Path

from headrace.library.files import room_for
from headrace.machine import cache_folder


def check(folder: Path, fetched_bytes: int, packed_bytes: int) -> None:
    """`folder` takes what is fetched. Both may be on one disk, or on two. Raises StoreRefused."""
    cache = cache_folder()
    if _disk(folder) == _disk(cache):
        room_for(folder, fetched_bytes + packed_bytes)
    else:
        room_for(folder, fetched_bytes)
        room_for(cache, packed_bytes)


def _disk(folder: Path) -> int:
    """That of the nearest folder above which is there."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return place.stat().st_dev
