"""A model by whatever it may be called: a file, a folder, the embedded one, a name of the library."""

from __future__ import annotations

from pathlib import Path

from headrace import checkpoint
from headrace.checkpoint import NO_PRESET, Checkpoint
from headrace.errors import ModelNotFound, RequestInvalid, UserError
from headrace.library.models import FILE, INSTALLED, Found, Library
from headrace.library.names import Name, means_a_path, path_of


def read(name_or_path: str | Path) -> Checkpoint:
    """What is there as a file or folder comes before a name. Raises ModelNotFound, FileInvalid, Unsupported."""
    found = find(name_or_path)
    return checkpoint.read(found.path, found.preset)


def find(name_or_path: str | Path) -> Found:
    """Where it is, and what is said of it beside its file. Raises ModelNotFound; FileInvalid and Unsupported for one of
    the library that cannot be loaded."""
    text = str(name_or_path)
    if (built_in := checkpoint.always_there(text)) is not None:
        return Found(Name.parse(text), INSTALLED, built_in, NO_PRESET)
    if isinstance(name_or_path, Path) or (path := path_of(text)) is not None:
        path = checkpoint.find(name_or_path)
        return Found(path, FILE, path, NO_PRESET)
    if means_a_path(text):
        raise ModelNotFound(f"there is no model {text!r}: there is neither a file nor a folder of this name")
    try:
        name = Name.parse(text)
    except RequestInvalid as error:
        raise ModelNotFound(f"there is no model {text!r}: {error}") from None
    return Library.here().find(name)


def exists(name: str) -> bool:
    """Whether there is a model of this name, or a file or folder, sound or not."""
    try:
        return bool(find(name))
    except ModelNotFound:
        return False
    except UserError:
        return True


def lasting_name(name: str) -> str:
    """What finds the same model from any folder: a path in full, any other name as it is."""
    path = None if checkpoint.always_there(name) else path_of(name)
    return name if path is None else str(path.absolute())
