"""The safe tools that come with Headrace: they read a clock and work things out, and touch nothing.

Their names, parameters and descriptions are what the embedded model was trained on: a change here is a new training.
"""

from __future__ import annotations

import calendar
import datetime
import re
import zoneinfo
from typing import Any

from headrace.errors import ToolFailed
from headrace.tools import calculator, units
from headrace.tools.schema import Function, schema_of


def calculate(expression: str) -> int | float:
    """Work out an arithmetic expression.

    Args:
        expression: such as 12 * (3 + 4.5)
    """
    return calculator.evaluate(expression)


def current_time(timezone: str = "local") -> dict[str, str]:
    """Get the current date, time and weekday.

    Args:
        timezone: such as Europe/Paris, UTC or local
    """
    zone = _zone(timezone.strip())
    now = _now(zone)
    shown = (now.tzname() or "local") if zone is None else str(zone)
    return {"date": f"{now:%Y-%m-%d}", "time": f"{now:%H:%M}", "weekday": _weekday(now), "timezone": shown}


def add_to_date(date: str, days: int = 0, weeks: int = 0, months: int = 0, years: int = 0) -> dict[str, str]:
    """Add days, weeks, months or years to a date.

    Args:
        date: YYYY-MM-DD or today
        days: may be negative
        weeks: may be negative
        months: may be negative
        years: may be negative
    """
    start = _date(date)
    try:
        result = _add_months(start, months + 12 * years) + datetime.timedelta(days=days, weeks=weeks)
    except (OverflowError, ValueError):
        raise ToolFailed("the result is not between the years 1 and 9999") from None
    return {"date": result.isoformat(), "weekday": _weekday(result)}


def days_between(start: str, end: str) -> int:
    """Count the days from one date to another.

    Args:
        start: YYYY-MM-DD or today
        end: YYYY-MM-DD or today
    """
    return (_date(end) - _date(start)).days


def convert_units(value: float, from_unit: str, to_unit: str) -> int | float:
    """Convert a value from one unit to another.

    Args:
        value: the number to convert
        from_unit: such as km
        to_unit: such as miles
    """
    return units.convert(value, from_unit, to_unit)


def text_statistics(text: str) -> dict[str, int]:
    """Count the characters, words, sentences and lines of a text.

    Args:
        text: the text
    """
    ends = list(_SENTENCE_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return {
        "characters": len(text),
        "words": len(text.split()),
        "sentences": len(ends) + bool(re.search(r"\w", rest)),
        "lines": len(text.splitlines()),
    }


# One look at each run of full stops, from its beginning: a page of dots must not take the square of its length.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++(?=[\"'”’»)\]]*+(?:\s|$))|[。！？]++")

BUILTIN: tuple[Function, ...] = (
    calculate,
    current_time,
    add_to_date,
    days_between,
    convert_units,
    text_statistics,
)


def builtin_schemas() -> list[dict[str, Any]]:
    """What the model is shown of them, in their order."""
    return [schema_of(function) for function in BUILTIN]


def _now(zone: datetime.tzinfo | None) -> datetime.datetime:
    """The only clock here; None is the machine's own zone. Tests put another in its place."""
    return datetime.datetime.now(zone).astimezone(zone)


def _zone(name: str) -> datetime.tzinfo | None:
    if name.lower() == "local":
        return None
    if name.upper() == "UTC":  # a machine without a time zone database still knows this one
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name.replace(" ", "_"))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolFailed(f"unknown time zone {name[:60]!r}: use a name such as Europe/Paris, UTC or local") from None


def _date(text: str) -> datetime.date:
    offset = {"today": 0, "tomorrow": 1, "yesterday": -1}.get(text.strip().lower())
    if offset is not None:
        return _now(None).date() + datetime.timedelta(days=offset)
    found = re.fullmatch(r"\s*([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})\s*", text)
    try:
        return datetime.date(*map(int, found.groups())) if found else _refuse(text)
    except ValueError:
        return _refuse(text)


def _refuse(text: str) -> datetime.date:
    raise ToolFailed(f"{text[:40]!r} is not a date: use YYYY-MM-DD or today")


def _add_months(start: datetime.date, months: int) -> datetime.date:
    """The same day, or the month's last where it has fewer; ValueError or OverflowError past the calendar's ends."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return datetime.date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))


def _weekday(day: datetime.date) -> str:
    return calendar.day_name[day.weekday()]
