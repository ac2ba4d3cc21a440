"""Durations as Ollama's API has them: a number of seconds, or "1h30m"; whatever is negative is for ever."""

from __future__ import annotations

import math
import re

from headrace.errors import RequestInvalid

UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


def seconds(value: str | float, field: str) -> float:
    """Raises RequestInvalid, which names the `field`."""
    if isinstance(value, str):
        value = _read(value.strip(), field)
    return math.inf if value < 0 else float(value)


def _read(text: str, field: str) -> float:
    unsigned = text.removeprefix("-")
    parts = _PART.findall(unsigned)
    if "".join(number + unit for number, unit in parts) == unsigned and parts:
        found = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    elif re.fullmatch(r"[0-9]+(\.[0-9]+)?", unsigned):
        found = float(unsigned)
    else:
        raise RequestInvalid(f"{field} is {text!r} but should be a duration: 5m, 300 (seconds), or -1", field)
    return -1.0 if text.startswith("-") else found
