"""What comes with Headrace, or with a package beside it, has its name for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace import nano, packaged
from headrace.errors import RequestInvalid

if TYPE_CHECKING:
    from headrace.library.names import Name


def is_built_in(name: Name) -> bool:
    """Whether it means such a model, installed or not."""
    return str(name).lower() in (nano.NAME, *packaged.MODELS)


def check_free(name: Name) -> None:
    """Raises RequestInvalid for a name that no other model can have."""
    if is_built_in(name):
        raise RequestInvalid(f"{name} is always the model that comes with Headrace: take another name")
