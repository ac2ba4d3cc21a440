"""Models that Hugging Face's libraries have downloaded: found in their cache, read where they lie, never written to.

models--<owner>--<repository>/refs/main                        the commit that was last asked for
models--<owner>--<repository>/snapshots/<commit>/<files>       links to blobs, or files

A repository of GGUF files is as many models, each under the tag by which Hugging Face would be asked for it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headrace.errors import FileInvalid, RequestInvalid
from headrace.library.files import read_object, read_small
from headrace.library.names import HUGGING_FACE, Name
from headrace.models import architectures

LARGEST_CONFIG: Final = 4 << 20
LONGEST_REF: Final = 256
HEAD_BYTES: Final = 4096  # of a GGUF file, in which its architecture stands
LONGEST_NAME: Final = 64  # of an architecture
LICENSES: Final = ("LICENSE", "LICENSE.txt", "LICENSE.md")

_REPOSITORY = re.compile(r"models--(.+?)--(.+)")
_QUANT = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q[1-8](?:_[0-9A-Z]+)*|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32))(?=$|[-._])", re.I
)
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)")
_ARCHITECTURE = b"\x14" + bytes(7) + b"general.architecture\x08\0\0\0"


@dataclass(frozen=True, slots=True)
class Cached:
    """A model in the cache: a GGUF file, or a folder of safetensors. `problem` says why it cannot be used."""

    name: Name
    path: Path
    size_bytes: int
    modified: datetime
    license: Path | None
    problem: str | None = None


def cached(hub: Path) -> Iterator[Cached]:
    """All models of the family, in order. What is not readable is left out."""
    for repository in _entries(hub):
        found = _REPOSITORY.fullmatch(repository.name)
        if found is None:
            continue
        with suppress(RequestInvalid, FileInvalid, OSError):
            yield from _models(Name(HUGGING_FACE, found[1], found[2]), _snapshot(repository))


def names(hub: Path) -> Iterator[Name]:
    """The same by their names alone, of whatever family: quick, and without a look into the files."""
    for repository in _entries(hub):
        if found := _REPOSITORY.fullmatch(repository.name):
            with suppress(RequestInvalid, OSError):
                yield from _names(Name(HUGGING_FACE, found[1], found[2]), _snapshot(repository))


def _names(name: Name, snapshot: Path) -> Iterator[Name]:
    if any(file.suffix == ".safetensors" for file in _entries(snapshot)):
        yield name
    for tagged, _, _ in _tagged(name, snapshot):
        yield tagged


def _snapshot(repository: Path) -> Path:
    """The one that `main` means, else the newest. Raises FileNotFoundError where there is none."""
    snapshots = [entry for entry in _entries(repository / "snapshots") if entry.is_dir()]
    with suppress(OSError, FileInvalid):
        main = read_small(repository / "refs" / "main", LONGEST_REF).decode(errors="replace").strip()
        snapshots = [entry for entry in snapshots if entry.name == main] or snapshots
    if not snapshots:
        raise FileNotFoundError
    return max(snapshots, key=lambda entry: entry.stat().st_mtime)


def _models(name: Name, snapshot: Path) -> Iterator[Cached]:
    files = _entries(snapshot)
    license_ = next((file for file in files if file.name in LICENSES), None)
    known = architectures()
    if any(file.suffix == ".safetensors" for file in files) and _model_type(snapshot) in known:
        wanted = [file for file in files if not file.is_dir() and file.suffix != ".gguf"]
        yield _cached(name, snapshot, wanted, license_)
    ours = {None, *(module.GGUF_ARCHITECTURE for module in known.values())}
    for tagged, first, parts in _tagged(name, snapshot):
        if _architecture(first) in ours:
            yield _cached(tagged, first, parts, license_)


def _tagged(name: Name, snapshot: Path) -> Iterator[tuple[Name, Path, list[Path]]]:
    """Each GGUF model under its tag, of which no two are the same; and its files."""
    tags = set[str]()
    for first, parts in _ggufs(snapshot):
        tag = _tag(first) if _tag(first) not in tags else first.name
        tags.add(tag)
        with suppress(RequestInvalid):  # a file whose name can be no tag
            yield replace(name, tag=tag), first, parts


def _cached(name: Name, path: Path, files: Iterable[Path], license_: Path | None) -> Cached:
    """Links that lead nowhere are files that were not downloaded to their end."""
    files = list(files)
    stats = [file.stat() for file in files if file.is_file()]
    modified = datetime.fromtimestamp(max((stat.st_mtime for stat in stats), default=0), UTC)
    whole = len(stats) == len(files) and _has_all_parts(files)
    problem = None if whole else "it is not whole in the cache: pull it again"
    return Cached(name, path, sum(stat.st_size for stat in stats), modified, license_, problem)


def _has_all_parts(files: Iterable[Path]) -> bool:
    parts = [found for file in files if (found := _PART.fullmatch(file.name))]
    return all(sum(other[1] == part[1] for other in parts) == int(part[3]) for part in parts)


def _ggufs(snapshot: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each model's first file, and all of them. Projectors of images are no models."""
    files = [
        file for file in _entries(snapshot) if file.suffix == ".gguf" and not file.name.lower().startswith("mmproj")
    ]
    for file in files:
        part = _PART.fullmatch(file.name)
        if part is None:
            yield file, [file]
        elif int(part[2]) == 1:
            yield file, [one for one in files if (other := _PART.fullmatch(one.name)) and other[1] == part[1]]


def _tag(file: Path) -> str:
    """What Hugging Face would be asked for: the file's quantisation, else its whole name."""
    found = _QUANT.findall(file.stem)
    return found[-1].upper() if found else file.name


def _model_type(snapshot: Path) -> object:
    with suppress(OSError, FileInvalid):
        return read_object(snapshot / "config.json", LARGEST_CONFIG).get("model_type")
    return None


def _architecture(file: Path) -> str | None:
    """By its header's beginning, where all that write GGUF put it; None if it is not there."""
    if not file.is_file():  # a pipe would make us wait
        return None
    try:
        with file.open("rb") as opened:
            _, found, rest = opened.read(HEAD_BYTES).partition(_ARCHITECTURE)
    except OSError:
        return None
    if not found or len(rest) < 8:
        return None
    (length,) = struct.unpack_from("<Q", rest)
    return rest[8 : 8 + min(length, LONGEST_NAME)].decode(errors="replace")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
