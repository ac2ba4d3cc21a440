"""docs/formats.md is true: its table of types is what the code says, and each test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import formats_page

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_the_types_are_those_of_the_code() -> None:
    """If not: `python -m benchmarks.quality --support`."""
    begin, end = formats_page.SUPPORT
    assert PAGE.partition(begin)[2].partition(end)[0].strip().splitlines() == formats_page.support()


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE))))
def test_named_tests_exist(named: str) -> None:
    file, _, test = named.partition("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
