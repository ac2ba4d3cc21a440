"""A row of the table that no longer fits the code would break nothing, and say nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.mutation import table

ROOT = Path(__file__).parents[2]


def rows() -> list[table.Mutation]:
    every = [value for value in vars(table).values() if isinstance(value, list | tuple)]
    return [row for value in every for row in value if isinstance(row, table.Mutation)]


def test_each_stands_exactly_once_in_its_file() -> None:
    found = {(row.file, row.before): (ROOT / row.file).read_text(encoding="utf-8").count(row.before) for row in rows()}
    assert found, "there are none"
    assert {row: count for row, count in found.items() if count != 1} == {}


def test_each_names_tests_that_there_are() -> None:
    named = Counter(test.partition("::")[0] for row in rows() for test in row.tests)
    assert [test for test in named if not (ROOT / test).exists()] == []
