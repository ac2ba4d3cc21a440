"""Rows under titles, in columns as wide as they must be."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cli._display import safe


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(safe("  ".join(map(str.ljust, cells, widths)).rstrip()) for cells in lines)
