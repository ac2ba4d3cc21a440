"""A page of the docs whose figures are written by a program, and the rest by hand."""

from __future__ import annotations

from pathlib import Path


def replace(page: Path, ends: tuple[str, str], body: str) -> None:
    """Writes what stands between two comments of the page."""
    begin, end = ends
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}\n\n{body}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
