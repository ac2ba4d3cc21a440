"""The matrices of a model in panels, the order in which the kernels read them: from a packed file, made once and mapped
ever after (`packed_file`), or, of a small model, in memory at every start.

A packed file that is cut off, foreign, outdated or of another version is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final

from headrace.engine.core import chosen_isa, load_core
from headrace.engine.packed_file import (
    PANELS,
    SUFFIX,
    Place,
    Progress,
    alone_at,
    damaged,
    folder,
    index_of,
    lock_of,
    part_of,
    unwatched,
)
from headrace.engine.packer import check_room, fits, to_panels, write
from headrace.errors import Busy, FileInvalid
from headrace.weights import split
from headrace.weights.mapped import as_bytes, map_file
from headrace.weights.tensor import Tensor, Weights

SMALL_BYTES: Final = 64 << 20  # a model up to this size is packed in memory, at every start
_log = logging.getLogger(__name__)


def in_panels(path: Path, weights: Weights, progress: Progress = unwatched) -> Weights:
    """`weights` with the matrices in panels that this machine reads fastest so; the others as they are.

    Weights of a large GGUF come from its packed file, which is made where there is none. Where it cannot be made (no
    room, no right), rows must do.
    """
    types = _types()
    if not _is_large(path, weights, types):
        return _packed_in_memory(weights, types)
    found = _in_file(path, types, progress)
    return {name: tuple(_replaced(tensor, found) for tensor in tensors) for name, tensors in weights.items()}


def pack(path: Path, weights: Weights, progress: Progress = unwatched) -> None:
    """Makes the packed file that a start of this model will look for, if it will and there is none."""
    types = _types()
    if _is_large(path, weights, types):
        _in_file(path, types, progress)


def verify(path: Path) -> list[str]:
    """What is damaged in the packed files of a GGUF, by name: those are taken away. FileInvalid for what is no GGUF."""
    found = list[str]()
    for source in split.read(path):
        there = Place.of(source, _types()).packed
        with suppress(FileInvalid):  # none, or none that a start would use
            if wrong := damaged(there):
                found += wrong
                with alone_at(there):
                    there.unlink(missing_ok=True)
    return found


def collect() -> int:
    """Takes away what no start will look for: packed files whose sources are gone, and what killed processes left.

    Gives the bytes that are free again. What others are at stays. OSError where the folder may not be read.
    """
    return sum(_take_away(packed) for packed in _all_of(folder()))


def _types() -> frozenset[str]:
    return frozenset(load_core().panel_types(chosen_isa()))


def _is_large(path: Path, weights: Weights, types: frozenset[str]) -> bool:
    """Whether it is worth a file of its own, and has one to be made from."""
    size = sum(t.data.size for tensors in weights.values() for t in tensors if fits(t, types))
    return size > SMALL_BYTES and path.is_file()


def _in_file(path: Path, types: frozenset[str], progress: Progress) -> Mapping[str, Tensor]:
    """Nothing where there is no packed file, nor can be: the log says why."""
    try:
        return _open(path, types, progress)
    except (OSError, FileInvalid) as error:
        _log.warning("%s runs unpacked, and slower: %s", path.name, error)
        return {}


def _packed_in_memory(weights: Weights, types: frozenset[str]) -> Weights:
    def packed(tensor: Tensor) -> Tensor:
        return to_panels(tensor) if fits(tensor, types) else tensor

    return {name: tuple(map(packed, tensors)) for name, tensors in weights.items()}


def _replaced(tensor: Tensor, found: Mapping[str, Tensor]) -> Tensor:
    """The packed form of a tensor, or of one expert of a stack ("name[3]")."""
    name, _, number = tensor.name.partition("[")
    packed = found.get(name)
    if packed is None:
        return tensor
    data = packed.data.reshape(-1, tensor.data.size)[int(number.rstrip("]")) if number else 0]
    return Tensor(tensor.name, packed.type, tensor.shape, data)


def _open(path: Path, types: frozenset[str], progress: Progress) -> dict[str, Tensor]:
    """The packed tensors of a GGUF by its names for them; each of a model's files has a packed one of its own."""
    places = [Place.of(source, types) for source in split.read(path)]
    absent = [place for place in places if index_of(place.packed, place.wanted) is None]
    check_room(absent)
    total, before = sum(place.size_bytes for place in absent), 0
    for place in absent:
        with alone_at(place.packed):
            if index_of(place.packed, place.wanted) is None:  # whoever was at it before us may have made it
                write(place, types, _after(before, total, progress))
        before += place.size_bytes
    return {name: tensor for place in places for name, tensor in _panels(place).items()}


def _after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    return lambda done: progress(before + done, total)


def _panels(place: Place) -> dict[str, Tensor]:
    index = index_of(place.packed, place.wanted)
    if index is None:
        raise FileInvalid(place.packed, "it does not hold what was just written: is the disk sound?")
    data = as_bytes(map_file(place.packed))
    return {
        entry["name"]: Tensor(entry["name"], entry["type"], tuple(entry["shape"]), part_of(data, entry))
        for entry in index["tensors"]
        if entry["type"].endswith(PANELS)
    }


# --- what nobody needs


def _all_of(parent: Path) -> Iterator[Path]:
    """The packed files there are, have been, or were to be."""
    names = [path.name for path in parent.iterdir()] if parent.is_dir() else []
    yield from sorted({parent / (name.partition(SUFFIX)[0] + SUFFIX) for name in names if SUFFIX in name})


def _take_away(packed: Path) -> int:
    try:
        with alone_at(packed, wait_s=0):
            remains = [path for path in packed.parent.glob(f"{escape(packed.name)}.*") if path != lock_of(packed)]
            return sum(map(_unlink, remains if _is_wanted(packed) else [*remains, packed]))
    except Busy:
        return 0


def _is_wanted(packed: Path) -> bool:
    """Not if it is none, or its source is gone. One that cannot be looked for counts as being there."""
    index = index_of(packed)
    try:
        return index is not None and bool(Path(index["source"]["path"]).stat())
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        return False
    except OSError:
        return True


def _unlink(path: Path) -> int:
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
