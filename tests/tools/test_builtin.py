"""The clock, the calendar and the text statistics."""

from __future__ import annotations

import datetime
import time
import zoneinfo
from typing import Any

import pytest

from headrace.errors import ToolFailed
from headrace.tools import builtin
from headrace.tools.builtin import add_to_date, current_time, days_between, text_statistics


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuesday, 24 November 2026, 23:30 UTC."""
    instant = datetime.datetime(2026, 11, 24, 23, 30, tzinfo=datetime.UTC)
    monkeypatch.setattr(builtin, "_now", lambda zone: instant.astimezone(zone or datetime.UTC))


@pytest.mark.usefixtures("clock")
def test_the_clock_knows_time_zones() -> None:
    expected = {"date": "2026-11-24", "time": "23:30", "weekday": "Tuesday", "timezone": "UTC"}
    assert current_time("UTC") == expected
    assert current_time(" utc ") == current_time("LOCAL") == expected
    assert current_time("America/New York")["timezone"] == "America/New_York"
    paris = current_time("Europe/Paris")
    assert (paris["date"], paris["time"], paris["weekday"]) == ("2026-11-25", "00:30", "Wednesday")


@pytest.mark.parametrize(
    "zone", ["Mars/Base", "../../etc/passwd", "/etc/localtime", "America", "", "x" * 10_000, "a\0b"]
)
def test_what_is_no_time_zone_is_a_sentence(zone: str) -> None:
    with pytest.raises(ToolFailed, match=r"unknown time zone .*: use a name such as Europe/Paris, UTC or local"):
        current_time(zone)


def test_the_real_clock_runs_in_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-13:30")
    time.tzset()
    try:
        assert current_time()["timezone"] == "XYZ"
        offset = builtin._now(None).utcoffset()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert offset == datetime.timedelta(hours=13, minutes=30)
    assert builtin._now(zoneinfo.ZoneInfo("Asia/Tokyo")).utcoffset() == datetime.timedelta(hours=9)
    assert abs(builtin._now(None) - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)


@pytest.mark.usefixtures("clock")
def test_dates_may_be_words() -> None:
    assert add_to_date("today", days=1) == {"date": "2026-11-25", "weekday": "Wednesday"}
    assert days_between(" Yesterday", "tomorrow ") == 2


@pytest.mark.parametrize(
    ("arguments", "date", "weekday"),
    [
        ({"date": "2026-03-05", "weeks": 3}, "2026-03-26", "Thursday"),
        ({"date": "2026-01-31", "months": 1}, "2026-02-28", "Saturday"),
        ({"date": "2028-01-31", "months": 1}, "2028-02-29", "Tuesday"),
        ({"date": "2024-02-29", "years": 1}, "2025-02-28", "Friday"),
        ({"date": "2026-12-31", "days": 1}, "2027-01-01", "Friday"),
        ({"date": "2026-03-31", "months": -1}, "2026-02-28", "Saturday"),
        ({"date": "2026-1-5", "days": -5}, "2025-12-31", "Wednesday"),
    ],
)
def test_calendar_arithmetic(arguments: dict[str, Any], date: str, weekday: str) -> None:
    assert add_to_date(**arguments) == {"date": date, "weekday": weekday}


def test_days_between_has_a_sign() -> None:
    assert days_between("2026-01-01", "2026-12-24") == 357
    assert days_between("2026-12-24", "2026-01-01") == -357


@pytest.mark.parametrize("date", ["2026-02-30", "05/03/2026", "soon", "", "2026-13-01"])
def test_what_is_no_date_is_a_sentence(date: str) -> None:
    with pytest.raises(ToolFailed, match="is not a date: use YYYY-MM-DD or today"):
        days_between(date, "2026-01-01")


def test_the_calendar_ends() -> None:
    for change in ({"years": 9000}, {"years": -2026}, {"months": -(10**6)}, {"days": 10**12}, {"years": 10**40}):
        with pytest.raises(ToolFailed, match="not between the years 1 and 9999"):
            add_to_date("2026-01-01", **change)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("Hello, world", (12, 2, 1, 1)),
        ("One. Two! Three?", (16, 3, 3, 1)),
        ('He said "stop." Then left', (25, 5, 2, 1)),
        ("a\nb\n\nc", (6, 3, 1, 4)),
        ("3.14 is pi", (10, 3, 1, 1)),
        ("", (0, 0, 0, 0)),
        ("héllo", (5, 1, 1, 1)),
        ("Wait... (really?) Yes!?", (23, 3, 3, 1)),
        ("你好。再见！", (6, 1, 2, 1)),
        pytest.param("." * 200_000 + "x", (200_001, 1, 1, 1), id="a page of dots"),
    ],
)
def test_text_statistics(text: str, counts: tuple[int, ...]) -> None:
    assert tuple(text_statistics(text).values()) == counts
