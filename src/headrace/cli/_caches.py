"""Saved prefix caches by name: the files of `Model.save_cache` in one folder, or anywhere by their paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from headrace.checkpoint import fingerprint
from headrace.engine import snapshot
from headrace.engine.core import BLOCK_TOKENS
from headrace.engine.snapshot import Snapshot
from headrace.errors import FileInvalid, RequestInvalid
from headrace.machine import cache_folder
from headrace.model import Model

SUFFIX: Final = ".cache"
MAGIC: Final = b'{"headrace_cache"'  # what every such file begins with
LONGEST_NAME: Final = 100  # bytes
_SEPARATOR: Final = re.compile(r"[/\\]")


def folder() -> Path:
    """Where those with names are kept, beside the packed files."""
    return cache_folder() / "prefixes"


def path_of(name: str) -> Path:
    """The file of a name; what ends in .cache is a path already. Raises RequestInvalid."""
    if name.endswith(SUFFIX):
        return Path(name).expanduser()
    fits = name.isprintable() and 0 < len(name.encode()) <= LONGEST_NAME
    if not fits or name.startswith((".", "~")) or _SEPARATOR.search(name):
        raise RequestInvalid(
            f"{name!r} is no name of a cache: expected no dot first, no slash and at most {LONGEST_NAME} bytes, "
            f"or a path that ends in {SUFFIX}"
        )
    return folder() / f"{name}{SUFFIX}"


def name_of(path: Path) -> str:
    """The name of a file in the folder, else the path."""
    return path.name.removesuffix(SUFFIX) if path.parent == folder() else str(path)


def found(name: str) -> Path:
    """The file, which exists; any path will do that has a slash. Raises RequestInvalid."""
    path = Path(name).expanduser() if _SEPARATOR.search(name) else path_of(name)
    try:
        there = path.is_file()
    except OSError:  # a part of the path is too long, or may not be looked into
        there = False
    if not there:
        raise RequestInvalid(
            f"there is no cache {name!r}: `headrace cache list` has those that were saved, "
            "`headrace cache save NAME` saves one"
        )
    return path


def saved() -> list[Path]:
    """The files in the folder, whole or not, by name."""
    return sorted(path for path in folder().glob(f"*{SUFFIX}") if not path.name.startswith("."))


def read(path: Path, every_byte: bool = False) -> Snapshot:
    """What the file holds, by its first line and its size; or by its checksum, too. Raises FileInvalid."""
    try:
        return snapshot.check(path) if every_byte else snapshot.read_header(path)
    except OSError as error:
        raise FileInvalid(path, f"cannot be read: {error.strerror}") from None


def place(name: str) -> Path:
    """Where a cache of this name is to be saved: over nothing but its like. Raises RequestInvalid."""
    path = path_of(name)
    try:
        if path.exists() and not _is_one(path):
            raise RequestInvalid(f"{path} exists and is no saved cache: give another name")
    except OSError as error:
        raise RequestInvalid(f"{path} cannot be written: {error.strerror}") from None
    return path


def remove(path: Path) -> None:
    """Deletes it, if it is one: the user may have named any file. Raises RequestInvalid."""
    try:
        if not _is_one(path):
            raise RequestInvalid(f"{path} is no saved cache: it stays where it is")
        path.unlink()
    except OSError as error:
        raise RequestInvalid(f"{path} cannot be deleted: {error.strerror}") from None


def load(model: Model, path: Path) -> str:
    """Adds the file to the model's prefix cache, and says what came of it. Raises FileInvalid, RequestInvalid."""
    there = read(path)
    _check(there, model, name_of(path))
    tokens = model.load_cache(path)
    if tokens == there.tokens:
        return f"cache {name_of(path)}: {tokens} tokens loaded"
    return f"cache {name_of(path)}: {tokens} of {there.tokens} tokens loaded, --cache-bytes leaves no room for more"


def _check(there: Snapshot, model: Model, name: str) -> None:
    """Raises RequestInvalid, with the flag that helps, for what another model or another way of running it saved."""
    identity = there.identity
    if identity.model != fingerprint(model.checkpoint):
        other = f"another model, {there.name}" if there.name != model.name else "another file of that name"
        raise RequestInvalid(f"the cache {name} is of {other}, not of this {model.name}: save one for this model")
    if identity.kv != model.kv:
        raise RequestInvalid(
            f"the cache {name} keeps keys and values as {identity.kv}, and the model now keeps them as {model.kv}: "
            f"run it with --kv {identity.kv}, or save one with --kv {model.kv}"
        )
    if identity.isa != model.isa:
        raise RequestInvalid(
            f"the cache {name} was computed with the instruction set {identity.isa}, and here it is {model.isa}, "
            "which rounds otherwise: save it again here"
        )
    if identity.block_tokens != BLOCK_TOKENS:
        raise RequestInvalid(
            f"the cache {name} has blocks of {identity.block_tokens} tokens, and this version of Headrace has blocks "
            f"of {BLOCK_TOKENS}: save it again"
        )


def _is_one(path: Path) -> bool:
    """Whether it is a saved cache, or what is left of one."""
    if path.parent == folder() and path.suffix == SUFFIX:
        return path.is_file()
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
