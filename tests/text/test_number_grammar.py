"""Ranges of numbers as regular expressions: what they match is what lies between the bounds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.text.number_grammar import DECIMAL_DIGITS, WHOLE_DIGITS, decimals, integers

whole = st.integers(-2000, 2000)
fractions = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), whole, st.integers(0, 3))


def near(bounds: Any) -> Any:
    """Numbers on, beside and between two bounds."""
    return st.one_of(st.sampled_from(bounds), *(st.integers(bound - 2, bound + 2) for bound in map(int, bounds)), whole)


@given(whole, whole, st.data())
def test_whole_numbers_between_two_bounds(low: int, high: int, data: st.DataObject) -> None:
    low, high = sorted((low, high))
    pattern = re.compile(integers(low, high))
    number = int(data.draw(near([low, high])))
    assert bool(pattern.fullmatch(str(number))) == (low <= number <= high)


@given(st.none() | whole, st.none() | whole, whole)
def test_a_bound_may_be_missing(low: int | None, high: int | None, number: int) -> None:
    if low is not None and high is not None:
        low, high = sorted((low, high))
    fits = (low is None or low <= number) and (high is None or number <= high)
    assert bool(re.fullmatch(integers(low, high), str(number))) == fits


@pytest.mark.parametrize("text", ["-0", "00", "01", "+1", "1.0", "", "9" * (WHOLE_DIGITS + 1)])
def test_what_is_no_whole_number(text: str) -> None:
    assert not re.fullmatch(integers(None, None), text)


def test_bounds_may_be_large() -> None:
    assert re.fullmatch(integers(10**30, None), str(10**30 + 5))
    assert not re.fullmatch(integers(10**30, None), str(10**30 - 1))
    assert re.fullmatch(integers(None, None), str(2**64))


@given(fractions, fractions, st.booleans(), st.booleans(), st.data())
def test_numbers_between_two_bounds(low: Decimal, high: Decimal, above: bool, below: bool, data: st.DataObject) -> None:
    low, high = sorted((low, high))
    if low == high and (above or below):
        with pytest.raises(ValueError, match="no number"):
            decimals(low, high, above=above, below=below)
        return
    pattern = re.compile(decimals(low, high, above=above, below=below))
    beside = st.builds(lambda bound, offset, places: bound + Decimal(offset).scaleb(-places),
                       st.sampled_from([low, high]), st.integers(-12, 12), st.integers(0, 4))  # fmt: skip
    number = data.draw(beside)
    fits = (low < number or (low == number and not above)) and (number < high or (number == high and not below))
    if not (number == 0 and str(number).startswith("-")):
        assert bool(pattern.fullmatch(f"{number:f}")) == fits


def test_one_bound_and_none() -> None:
    at_least = re.compile(decimals(Decimal("0.1"), None))
    assert at_least.fullmatch("0.1")
    assert at_least.fullmatch("123456.75")
    assert not at_least.fullmatch("0.09")
    assert not at_least.fullmatch("-5")
    free = re.compile(decimals(None, None))
    assert all(free.fullmatch(text) for text in ("0", "-0.5", "1e9", "6.02e23", "-1.5E-7"))
    assert not free.fullmatch("1e999")  # would be infinite
    assert not free.fullmatch("1." + "0" * (DECIMAL_DIGITS + 1))  # a number has to end


def test_a_range_too_small_for_a_few_digits_gets_more() -> None:
    assert re.fullmatch(decimals(Decimal("1e-9"), Decimal("2e-9")), "0.0000000015")


def test_there_is_no_number_between_bounds_that_cross() -> None:
    with pytest.raises(ValueError, match="no number"):
        integers(3, 2)
    with pytest.raises(ValueError, match="no number"):
        decimals(Decimal(3), Decimal(2))
