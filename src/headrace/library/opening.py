"""A model by whatever it may be called: a file, a folder, the embedded one, a name of the library."""

from __future__ import annotations

from pathlib import Path

from headrace import checkpoint
from headrace.checkpoint import Checkpoint
from headrace.errors import ModelNotFound, RequestInvalid
from headrace.library.models import Library
from headrace.library.names import Name


def read(name_or_path: str | Path) -> Checkpoint:
    """What is there as a file or folder comes before a name. Raises ModelNotFound, FileInvalid, Unsupported."""
    text = str(name_or_path)
    if checkpoint.always_there(text) or isinstance(name_or_path, Path) or Path(text).expanduser().exists():
        return checkpoint.read(name_or_path)
    if means_a_path(text):
        raise ModelNotFound(f"there is no model {text!r}: there is neither a file nor a folder of this name")
    try:
        name = Name.parse(text)
    except RequestInvalid as error:
        raise ModelNotFound(f"there is no model {text!r}: {error}") from None
    found = Library.here().find(name)
    return checkpoint.read(found.path, found.preset)


def means_a_path(text: str) -> bool:
    """Whether nobody who writes this means a name."""
    return text.startswith((".", "/", "~")) or text.lower().endswith((".gguf", ".panels", ".safetensors"))
