"""Numbers between two bounds, as regular expressions: a grammar sees digits, not values."""

from __future__ import annotations

from decimal import Decimal
from math import ceil, floor
from typing import Final

WHOLE_DIGITS: Final = 20  # of an integer that nothing bounds: more than 64 bits need
DECIMAL_DIGITS: Final = 15  # of a number: what a double tells apart
FRACTION_DIGITS: Final = 6

UNBOUNDED: Final = (
    rf"-?(0|[1-9][0-9]{{0,{DECIMAL_DIGITS - 1}}})(\.[0-9]{{1,{DECIMAL_DIGITS}}})?([eE][+-]?[0-9]{{1,2}})?"
)


def integers(low: int | None, high: int | None) -> str:
    """Whole numbers from `low` to `high`, both included, written without leading zeros. ValueError if there is none."""
    most = 10**WHOLE_DIGITS - 1
    low = -max(most, abs(10 * (high or 0))) if low is None else low
    high = max(most, abs(10 * low)) if high is None else high
    parts = []
    if low < 0 and low <= high:
        parts.append("-" + _between(max(1, -high), -low))
    if max(low, 0) <= high:
        parts.append(_between(max(low, 0), high))
    return _either(parts)


def decimals(low: Decimal | None, high: Decimal | None, *, above: bool = False, below: bool = False) -> str:
    """Numbers from `low` to `high`, of bounded length; `above` and `below` leave out the bounds themselves.

    Written as JSON writes them, without an exponent. Raises ValueError if there is none that is short enough.
    """
    if low is None and high is None:
        return UNBOUNDED
    places = _places([bound for bound in (low, high) if bound is not None])
    most = Decimal(10) ** DECIMAL_DIGITS - 1
    low = -max(most, abs(10 * (high or Decimal(0)))) if low is None else low
    high = max(most, abs(10 * low)) if high is None else high
    if low > high:
        return _either([])
    parts = []
    if low < 0 and (written := _magnitudes(max(-high, Decimal(0)), -low, below or high >= 0, above, places)):
        parts.append("-" + written)
    if high >= 0 and (written := _magnitudes(max(low, Decimal(0)), high, above and low >= 0, below, places)):
        parts.append(written)
    return _either(parts)


def _magnitudes(low: Decimal, high: Decimal, above: bool, below: bool, places: int) -> str:
    """Numbers that are not negative; empty if there is none."""
    first, last = floor(low), floor(high)
    if first == last:
        fraction = _fractions(low - first, high - first, above, below, places)
        return f"{first}{fraction}" if fraction else ""
    parts = []
    if low > first or above:
        if fraction := _fractions(low - first, Decimal(1), above, True, places):
            parts.append(f"{first}{fraction}")
        first += 1
    if first < last:
        parts.append(_between(first, last - 1) + (rf"(\.[0-9]{{1,{places}}})?" if places else ""))
    if fraction := _fractions(Decimal(0), high - last, False, below, places):
        parts.append(f"{last}{fraction}")
    return _either(parts) if parts else ""


def _places(bounds: list[Decimal]) -> int:
    """Digits after the point: one more than the bounds have, and more where a double still tells them apart."""
    stated = max(-int(bound.normalize().as_tuple().exponent) for bound in bounds)
    room = DECIMAL_DIGITS - max(len(str(floor(abs(bound)))) for bound in bounds)
    return max(min(FRACTION_DIGITS, room), min(stated + 1, DECIMAL_DIGITS) if stated > 0 else 0)


def _fractions(low: Decimal, high: Decimal, above: bool, below: bool, places: int) -> str:
    """What may follow a whole part so that `low <= 0.digits <= high`: a point and digits, or nothing."""
    parts = []
    for length in range(1, places + 1):
        least, most = low.scaleb(length), high.scaleb(length)
        first = ceil(least) + (above and least == ceil(least))
        last = min(floor(most) - (below and most == floor(most)), 10**length - 1)
        if first <= last:
            parts.append(rf"\.{_digits(str(first).zfill(length), str(last).zfill(length))}")
    bare = low == 0 and not above and (high > 0 or not below)  # no digits at all
    if not parts:
        return "()" if bare else ""
    return f"({'|'.join(parts)})" + ("?" if bare else "")


def _between(low: int, high: int) -> str:
    """Whole numbers, none negative, `low <= high`."""
    parts = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (length - 1) if length > 1 else 0), min(high, 10**length - 1)
        parts.append(_digits(str(first), str(last)))
    return _either(parts)


def _digits(low: str, high: str) -> str:
    """All strings of digits from `low` to `high`, which are equally long."""
    if not low.strip("0") and not high.strip("9"):
        return f"[0-9]{{{len(low)}}}" if low else ""
    if low[0] == high[0]:
        return low[0] + _digits(low[1:], high[1:])
    zeros, nines = "0" * (len(low) - 1), "9" * (len(low) - 1)
    first, last, parts = int(low[0]), int(high[0]), []
    if low[1:] != zeros:
        parts.append(low[0] + _digits(low[1:], nines))
        first += 1
    if high[1:] != nines:
        parts.append(high[0] + _digits(zeros, high[1:]))
        last -= 1
    if first <= last:
        parts.append((f"[{first}-{last}]" if first < last else str(first)) + _digits(zeros, nines))
    return _either(parts)


def _either(parts: list[str]) -> str:
    if not parts:
        raise ValueError("no number lies between the bounds")
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"
