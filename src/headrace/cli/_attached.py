"""Files that a question is about: read, checked, and put before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headrace.errors import FileInvalid

LARGEST_BYTES: Final = 4 << 20  # of all files together: some million tokens, more than any window holds


def read_files(names: Sequence[str]) -> str:
    """Each after a line with its name as it was given. Raises FileInvalid for what is no text, or far too much."""
    parts, left = list[str](), LARGEST_BYTES
    for name in names:
        content = _read(name, left)
        left -= len(content)
        parts.append(f"File {_shown(name)}:\n{_text(name, content)}")
    return "\n\n".join(parts)


def joined(attached: str, question: str) -> str:
    """The question comes last: where a window is too small, beginnings are cut."""
    return "\n\n".join(part for part in (attached, question) if part)


def _read(name: str, most: int) -> bytes:
    """Read, not measured, since a pipe has no size."""
    try:
        with Path(name).expanduser().open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise FileInvalid(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > most:
        raise FileInvalid(name, f"too large: -f takes text of up to {LARGEST_BYTES >> 20} MiB, all files together")
    return content


def _text(name: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FileInvalid(name, "is not UTF-8 text, which -f takes")
    return text.replace("\r\n", "\n").strip("\n")


def _shown(name: str) -> str:
    """One line, whatever a file may be called."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
