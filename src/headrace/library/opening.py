"""A model by whatever it may be called: a file, a folder, the embedded one, a name of the library."""

from __future__ import annotations

from pathlib import Path

from headrace import checkpoint
from headrace.checkpoint import NO_PRESET, Checkpoint
from headrace.errors import ModelNotFound, RequestInvalid, UserError
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.preset import Preset


def read(name_or_path: str | Path) -> Checkpoint:
    """What is there as a file or folder comes before a name. Raises ModelNotFound, FileInvalid, Unsupported."""
    return checkpoint.read(*_found(name_or_path))


def exists(name: str) -> bool:
    """Whether there is a model of this name, or a file or folder, sound or not."""
    try:
        return bool(_found(name))
    except (ModelNotFound, OSError, ValueError):  # a text may be too long for a path
        return False
    except UserError:
        return True


def lasting_name(name: str) -> str:
    """What finds the same model from any folder: a path in full, any other name as it is."""
    path = Path(name).expanduser()
    return name if checkpoint.always_there(name) or not path.exists() else str(path.absolute())


def _found(name_or_path: str | Path) -> tuple[str | Path, Preset]:
    text = str(name_or_path)
    if checkpoint.always_there(text) or isinstance(name_or_path, Path) or Path(text).expanduser().exists():
        return name_or_path, NO_PRESET
    if means_a_path(text):
        raise ModelNotFound(f"there is no model {text!r}: there is neither a file nor a folder of this name")
    try:
        name = Name.parse(text)
    except RequestInvalid as error:
        raise ModelNotFound(f"there is no model {text!r}: {error}") from None
    found = Library.here().find(name)
    return found.path, found.preset


def means_a_path(text: str) -> bool:
    """Whether nobody who writes this means a name."""
    return text.startswith((".", "/", "~")) or text.lower().endswith((".gguf", ".panels", ".safetensors"))
