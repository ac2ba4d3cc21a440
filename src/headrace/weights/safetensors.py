"""Reads safetensors: a JSON header that says where each tensor lies, then the tensors; one file, or shards of a folder.

    u64 header size   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}   data

Files are hostile until checked: the header's size is bounded, offsets must agree with type and shape and lie within the
file, and no two tensors share a byte. Tensors are views of the mapped file. Source: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import FileInvalid, ModelNotFound, Unsupported
from headrace.weights.mapped import Extent, as_bytes, check_extents, map_file, shown
from headrace.weights.quantisation import nbytes
from headrace.weights.tensor import Tensor

MAX_HEADER_BYTES = 100_000_000
ITEM_BYTES = 8  # the header's own size, before it

_TYPES = ("F32", "F16", "BF16")
_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.safetensors")


def read_folder(path: Path) -> dict[str, Tensor]:
    """All tensors of a model's folder: of model.safetensors, else of its index's shards, else of each *.safetensors."""
    index = path / "model.safetensors.index.json"
    single = path / "model.safetensors"
    if single.exists():
        return read(single)
    if index.exists():
        return _read_indexed(path, index)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelNotFound(f"{path}: there are no weights: expected model.safetensors or its shards")
    _check_complete(path, files)
    tensors: dict[str, Tensor] = {}
    for file in files:
        found = read(file)
        twice = next((name for name in found if name in tensors), None)
        if twice is not None:
            raise FileInvalid(file, f"tensor {shown(twice)} is in another file of the folder too: keep one of them")
        tensors |= found
    return tensors


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, in its order; FileInvalid or Unsupported says what is wrong with it."""
    mapped = map_file(path)
    if len(mapped) < ITEM_BYTES:
        raise FileInvalid(path, "this is not a safetensors file: it has no header")
    (header_bytes,) = struct.unpack_from("<Q", mapped)
    data_start = ITEM_BYTES + header_bytes
    if header_bytes > MAX_HEADER_BYTES or data_start > len(mapped):
        raise FileInvalid(path, f"the header claims {header_bytes} bytes: the file is cut off or not safetensors")
    header = _parse(path, mapped[ITEM_BYTES:data_start])
    header.pop("__metadata__", None)
    claims = [_claim(path, name, entry, data_start) for name, entry in header.items()]
    check_extents(path, (extent for _, _, extent in claims), len(mapped))
    data = as_bytes(mapped)
    return {
        extent.name: Tensor(extent.name, kind, shape, _aligned(data[extent.start : extent.stop]))
        for kind, shape, extent in claims
    }


def _read_indexed(path: Path, index: Path) -> dict[str, Tensor]:
    mapped = map_file(index)
    if len(mapped) > MAX_HEADER_BYTES:
        raise FileInvalid(index, f"the index has more than {MAX_HEADER_BYTES} bytes: it is damaged")
    weight_map = _parse(index, mapped[:]).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise FileInvalid(index, 'there is no "weight_map" of tensor names to file names: download it again')
    shards = {file: _read_shard(path, index, file) for file in dict.fromkeys(weight_map.values())}
    for name, file in weight_map.items():
        if name not in shards[file]:
            raise FileInvalid(path / file, f"tensor {shown(name)} is missing although the index says it is here")
    return {name: shards[file][name] for name, file in weight_map.items()}


def _read_shard(path: Path, index: Path, file: str) -> dict[str, Tensor]:
    """By name alone, not by where a link leads: the files of a download cache are links into another folder."""
    if file in ("", ".", "..") or re.search(r"[/\\\0]", file):
        raise FileInvalid(index, f"it names the shard {shown(file)}: shards must lie in the model's folder")
    if not (path / file).is_file():
        raise FileInvalid(path, f"the shard {file} is missing: download it again")
    return read(path / file)


def _check_complete(path: Path, files: Iterable[Path]) -> None:
    """Shards without an index still say in their names how many they are."""
    present = {file.name for file in files}
    for found in filter(None, map(_SHARD.fullmatch, sorted(present))):
        for number in range(1, int(found[3]) + 1):
            name = f"{found[1]}-{number:05}-of-{found[3]}.safetensors"
            if name not in present:
                raise FileInvalid(path, f"the shard {name} is missing: download it again")


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise FileInvalid(path, "a name occurs twice in its header: the file is damaged")
        return entries

    try:
        parsed = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise FileInvalid(path, "its header is not JSON: the file is damaged, or is something else") from None
    if not isinstance(parsed, dict):
        raise FileInvalid(path, "its header is not a JSON object: the file is damaged, or is something else")
    return parsed


def _claim(path: Path, name: str, entry: object, data_start: int) -> tuple[str, tuple[int, ...], Extent]:
    """Type, shape and place of one tensor, as its header entry claims them."""
    match entry:
        case {"dtype": str(kind), "shape": [*sizes], "data_offsets": [start, stop]} if all(
            type(number) is int and 0 <= number < 2**63 for number in (*sizes, start, stop)
        ):
            pass
        case _:
            raise FileInvalid(path, f"tensor {shown(name)} needs dtype, shape and data_offsets: the header is damaged")
    if kind not in _TYPES:
        raise Unsupported(
            f"{path}: tensor {shown(name)} is {kind[:20]}, which is not supported: use {', '.join(_TYPES)}"
        )
    if 0 in sizes:
        raise FileInvalid(path, f"tensor {shown(name)} is empty: its shape is {shown(sizes)}")
    if stop - start != nbytes(kind, tuple(sizes)):
        raise FileInvalid(
            path, f"tensor {shown(name)} has {stop - start} bytes, which is not {kind} of shape {shown(sizes)}"
        )
    return kind, tuple(sizes), Extent(data_start + start, data_start + stop, name)


def _aligned(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The view itself, but a copy where an old writer put it at an address that its items cannot be read from."""
    return data if data.ctypes.data % 4 == 0 else data.copy()
