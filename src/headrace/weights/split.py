"""A GGUF model in several files, NAME-00001-of-00003.gguf and so on, as llama.cpp's tools split it.

Each part is a GGUF file of its own. The first holds the metadata (and may hold nothing else), each holds some of the
tensors, and each says which part it is: `split.no` (from 0) of `split.count`, and how many tensors all parts have
together.
"""

from __future__ import annotations

import re
from pathlib import Path

from headrace.errors import FileInvalid
from headrace.weights import gguf
from headrace.weights.fields import Fields
from headrace.weights.gguf import GgufFile
from headrace.weights.mapped import shown
from headrace.weights.tensor import Tensor

_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")


def read(path: Path) -> tuple[GgufFile, ...]:
    """All files of the model, in order: of the whole model `path`, or of the one that `path` is any part of.

    Raises FileInvalid where a part is missing or is not the one that its name says, and all that `gguf.read` raises.
    """
    opened = gguf.read(path)
    count = _stated(opened, "split.count", 1)
    if count <= 1:
        return (opened,)
    paths = _paths(path, count)
    if missing := [part.name for part in paths if not part.exists()]:
        names = missing[0] + (f" and {len(missing) - 1} more are" if len(missing) > 1 else " is")
        raise FileInvalid(path, f"the model has {count} parts and {names} missing: put all in one folder")
    parts = tuple(opened if part == path else gguf.read(part) for part in paths)
    for number, part in enumerate(parts, 1):
        _check(part, number, count)
    _check_tensors(parts)
    return parts


def tensors(parts: tuple[GgufFile, ...]) -> dict[str, Tensor]:
    """The tensors of all parts, in order."""
    return {name: tensor for part in parts for name, tensor in part.tensors.items()}


def model_name(path: Path) -> str:
    """The file's name less its ending, and less the number of the part."""
    found = _NAME.fullmatch(path.name)
    return found[1] if found else path.stem


def _paths(path: Path, count: int) -> list[Path]:
    found = _NAME.fullmatch(path.name)
    if found is None or int(found[3]) != count or not 1 <= int(found[2]) <= count:
        raise FileInvalid(
            path,
            f"it is one of {count} parts of a model, and its name does not say which: "
            f"name the parts NAME-00001-of-{count:05}.gguf and so on, as they were",
        )
    return [path.with_name(f"{found[1]}-{number:05}-of-{found[3]}.gguf") for number in range(1, count + 1)]


def _check(part: GgufFile, number: int, count: int) -> None:
    of, is_ = _stated(part, "split.count", 1), _stated(part, "split.no", 0) + 1
    if (is_, of) != (number, count):
        raise FileInvalid(
            part.path,
            f"it holds part {is_} of {of}, not {number} of {count}: parts were renamed or mixed, download them again",
        )


def _check_tensors(parts: tuple[GgufFile, ...]) -> None:
    """Parts of two models seldom agree: in what the first promises, or in who holds what."""
    held: dict[str, Path] = {}
    for part in parts:
        for name in part.tensors:
            if name in held:
                raise FileInvalid(
                    part.path,
                    f"tensor {shown(name)} is in {held[name].name} too: the parts are of different models",
                )
            held[name] = part.path
    promised = _stated(parts[0], "split.tensors.count", len(held))
    if promised != len(held):
        raise FileInvalid(
            parts[0].path,
            f"{promised} tensors should be in the {len(parts)} parts and {len(held)} are: they are of different models",
        )


def _stated(part: GgufFile, key: str, default: int) -> int:
    return Fields(str(part.path), part.metadata).integer(key, default)
