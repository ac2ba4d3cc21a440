"""Pages of the documentation as tests read them: their sections, the tables in these, and what is named in a cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Page:
    """`heading` begins its sections."""

    text: str
    heading: str = "##+"

    @classmethod
    def of(cls, name: str, heading: str = "##+") -> Page:
        """A file of docs/."""
        return cls((ROOT / "docs" / name).read_text(encoding="utf-8"), heading)

    @property
    def words(self) -> str:
        """All of it, however its lines are broken."""
        return " ".join(self.text.split())

    @cached_property
    def sections(self) -> dict[str, str]:
        pattern = rf"^{self.heading} ([^\n]*)\n(.*?)(?=^{self.heading} |\Z)"
        return dict(re.findall(pattern, self.text, re.MULTILINE | re.DOTALL))

    def rows(self, section: str, head: str) -> list[list[str]]:
        """The cells of the table below this head."""
        pattern = rf"^\| {head} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)"
        table = re.search(pattern, self.sections[section], re.MULTILINE)
        assert table
        return [cells(line) for line in table[1].splitlines()]


def cells(line: str) -> list[str]:
    """Of a row."""
    return [cell.strip() for cell in line.split("|")[1:-1]]


def named(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)
