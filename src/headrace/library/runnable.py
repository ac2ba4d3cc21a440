"""Whether a model of a registry can run here, by what its config says of its family: known before its weights come."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.errors import HeadraceError, Unsupported
from headrace.library.files import read_object
from headrace.library.names import Name
from headrace.models import architectures

LARGEST_CONFIG: Final = 4 << 20  # bytes


def check(name: Name, config: Path) -> None:
    """Raises Unsupported."""
    if not may_run(config):
        known = ", ".join(sorted(_families()))
        raise Unsupported(f"{name} is a model of the family {_said(config)!r}, which does not run here: {known} do")


def may_run(config: Path) -> bool:
    """Of a config that says nothing of it, or cannot be read, too."""
    said = _said(config)
    return not said or said in _families()


def _said(config: Path) -> object:
    with suppress(HeadraceError, OSError):
        return read_object(config, LARGEST_CONFIG).get("model_family")
    return None


def _families() -> list[str]:
    """As GGUF files spell them."""
    return [module.GGUF_ARCHITECTURE for module in architectures().values()]
