"""The keys of a server: how they are written, for those who give them out and for those who send them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from headrace.errors import FileInvalid

Permission = Literal["infer", "manage"]
SCOPES: Final[Sequence[Permission]] = ("infer", "manage")
_WITH_SCOPES: Final = re.compile(r"(.*):((?:infer|manage)(?:,(?:infer|manage))*)")
_BEHIND: Final = re.compile(r":(?=(?:infer|manage)(?:[,\s]|$))")


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and what whoever knows it may do."""

    secret: str = field(repr=False)
    scopes: frozenset[Permission] = frozenset(SCOPES)

    @classmethod
    def of(cls, text: str) -> Key:
        """SECRET, which may do everything, or SECRET:infer, SECRET:manage."""
        found = _WITH_SCOPES.fullmatch(text)
        return cls(found[1], frozenset(cast(list[Permission], found[2].split(",")))) if found else cls(text)


def first_secret(variable: str) -> str | None:
    """What a client sends where the variable has the keys of a server, with spaces between them; None for nothing."""
    first, *_ = variable.split() or [""]
    return Key.of(first).secret or None


def read_keys(path: Path) -> list[Key]:
    """A key on each line, and its scopes behind a space or a colon, with a comma between them; without any it has both.

    Raises FileInvalid.
    """
    keys = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileInvalid(path, f"the keys cannot be read: {getattr(error, 'strerror', error)}") from error
    for number, line in enumerate(lines, 1):
        said = re.sub(r"(^|\s)#.*", "", line)  # a key may have a # in it
        secret, *scopes = _BEHIND.sub(" ", said).replace(",", " ").split() or [""]
        if not secret:
            continue
        if unknown := set(scopes) - set(SCOPES):
            raise FileInvalid(path, f"line {number} has the scope {min(unknown)!r}: scopes are {' and '.join(SCOPES)}")
        keys.append(Key(secret, frozenset(scope for scope in SCOPES if not scopes or scope in scopes)))
    if not keys:
        raise FileInvalid(path, "there is no key in it: write one on a line")
    return keys
