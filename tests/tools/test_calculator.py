"""The calculator: right, exact where it can be, and never hanging."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ToolFailed
from headrace.tools.builtin import calculate

SMALL = st.integers(-(10**6), 10**6)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("37 * 12", 444),
        ("37x12", 444),
        ("37 × 12", 444),
        ("100 ÷ 8", 12.5),
        ("5 − 7", -2),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("2 - 3 - 4", -5),
        ("2 ** 3 ** 2", 512),
        ("2^10", 1024),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("--3", 3),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 3", 1),
        ("-7 % 3", 2),
        ("80 * 15%", 12),
        ("15% * 80", 12),
        ("50 % (3)", 2),
        ("7/3", 2.333333333),
        ("6/3", 2),
        ("0.1 + 0.2", 0.3),
        (".5 + 1.", 1.5),
        ("1e3 + 1", 1001),
        ("sqrt(16)", 4),
        ("sqrt(2)", 1.414213562),
        ("abs(-3.5)", 3.5),
        ("round(2.5)", 3),
        ("round(-2.5)", -3),
        ("round(3.14159, 2)", 3.14),
        ("min(3, 1, 2) + max(4, 5)", 6),
        ("2 * pi", 6.283185307),
        ("SQRT(4) * PI", 6.283185307),
        ("7 % abs(-3)", 1),
        ("sqrt(16/9) * 3", 4),
        ("sqrt(2) ** 2", 2),
        ("sqrt(2) * 10**12", 1414213562373),
        ("sqrt(2) * 10**20", 1.414213562e20),
        ("12345678901.5", 12345678902),
        ("round(1.005 + sqrt(2) * 0, 2)", 1.01),
        ("round(1250, -2)", 1300),
        ("+".join(["(1)"] * 100), 100),
        ("1e900 / 1e899", 10),
        ("123456789 * 987654321", 121932631112635269),
        ("2**64", 18446744073709551616),
    ],
)
def test_values(expression: str, value: float) -> None:
    found = calculate(expression)
    assert found == value
    assert type(found) is type(value)


@given(SMALL, SMALL, SMALL)
def test_whole_numbers_are_pythons(a: int, b: int, c: int) -> None:
    assert calculate(f"{a} + {b} * {c}") == a + b * c
    assert calculate(f"({a} - {b}) * {c}") == (a - b) * c
    if b:
        assert calculate(f"{a} // {b}") == a // b
        assert calculate(f"{a} % ({b})") == a % b


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("1 / 0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9**9**9", "digits"),
        ("9" * 400 + "**3", "digits"),
        ("1e999999999", "digits"),
        ("1+" * 300 + "1", "longer than 500 characters"),
        ("(" * 100 + "1" + ")" * 100, "nested deeper than 50"),
        ("-" * 100 + "1", "nested deeper than 50"),
        ("0 ** -0.5", "division by zero"),
        ("9e900 * 9e900", "digits"),
        ("1 / 10**400", "too small"),
        ("sqrt(2) * 1e308 * 10", "too large"),
        ("sqrt(2) + 1e400", "too large"),
        ("pi ** 9999", "too large"),
        ("round(1.5, 101)", "whole number of digits"),
        ("round(1.5, 0.5)", "whole number of digits"),
        ("sqrt(-1)", "no real square root"),
        ("(-8) ** 0.5", "no real power"),
        ("1 +", "not complete"),
        ("", "not complete"),
        ("1 2", "unexpected '2'"),
        ("(1", r"missing '\)'"),
        ("1 $ 2", r"unexpected '\$'"),
        ("__import__('os')", "unexpected '_'"),
        ("exec(1)", "unknown name 'exec'"),
        ("sqrt(1, 2)", "sqrt cannot take 2 numbers"),
    ],
)
def test_what_it_cannot_do_is_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(ToolFailed, match=sentence):
        calculate(expression)


@given(st.text("0123456789.+-*/%^()x, esqrtabpi", max_size=60))
def test_any_text_is_a_number_or_a_sentence(expression: str) -> None:
    with contextlib.suppress(ToolFailed):
        assert isinstance(calculate(expression), int | float)
