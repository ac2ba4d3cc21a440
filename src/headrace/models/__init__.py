"""One file per architecture; a file is named after its `model_type`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def architectures() -> dict[str, ModuleType]:
    """model_type -> module: a file in this folder is all that it takes."""
    return {module.name: import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)}
