"""Durations of requests."""

from __future__ import annotations

import math

import pytest

from headrace.errors import RequestInvalid
from headrace.server.durations import seconds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, 0.0), (300, 300.0), (1.5, 1.5), (-1, math.inf), (-0.5, math.inf), ("5m", 300.0), ("1h30m", 5400.0),
        ("0", 0.0), ("300", 300.0), ("-1", math.inf), ("-1m", math.inf), ("1.5h", 5400.0), ("250ms", 0.25),
        ("0s", 0.0), (" 10s ", 10.0), ("2us", 2e-6), ("3µs", 3e-6), ("4ns", 4e-9), (".5s", 0.5),
    ],
)  # fmt: skip
def test_read(given: str | float, expected: float) -> None:
    assert seconds(given, "keep_alive") == pytest.approx(expected)


@pytest.mark.parametrize("given", ["", "soon", "5 m", "m5", "5d", "--5m", "5m!", "1e3", "nan", "٥m"])
def test_refused(given: str) -> None:
    with pytest.raises(RequestInvalid, match=r"keep_alive is .* but should be a duration") as error:
        seconds(given, "keep_alive")
    assert error.value.field == "keep_alive"
