"""Under which licence a model is published: what its files say, else what its name does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headrace.library import family
from headrace.library.models import Found
from headrace.weights import split

OTHER: Final = "other"  # what Hugging Face calls one that is not on its list: its name stands beside it
FAMILY: Final = "lfm"  # what names of the family's licence begin with, "lfm1.0"


@dataclass(frozen=True, slots=True)
class License:
    """`texts` are those that come with the model. What nobody says is None, or nothing."""

    name: str | None
    url: str | None
    texts: tuple[str, ...]


def of(found: Found) -> License:
    """Raises FileInvalid, Unsupported for a file that is no model's."""
    name, url = _stated(found.path)
    if name is None and not isinstance(found.name, Path):
        name = family.license_of(found.name)
    if name == family.LICENSE or (name or "").lower().startswith(FAMILY):
        name, url = family.LICENSE, family.LICENSE_URL
    return License(name, url, found.licenses)


def _stated(path: Path) -> tuple[str | None, str | None]:
    """By the header of a GGUF file. A link that is none leads into the repository that it comes from."""
    header = split.read(path)[0].metadata if path.is_file() else {}
    name, link = _text(header, "general.license"), _text(header, "general.license.link")
    if name is None or name.lower() == OTHER:
        name = _text(header, "general.license.name")
    return name, link if link and link.startswith(("https://", "http://")) else None


def _text(header: Mapping[str, Any], key: str) -> str | None:
    value = header.get(key)
    return value.strip() or None if isinstance(value, str) else None
