"""Units of measure: a table of spellings, each with its quantity and its size in that quantity's base unit.

Sizes are exact fractions. Volumes are US ones unless "imperial" is said, a year is 365 days and a month its twelfth,
kB, MB, GB are powers of 1000 and KiB, MiB, GiB powers of 1024. Capitals count only where they decide ("Mb" is a
megabit, "MB" and "mb" a megabyte).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from headrace.errors import ToolFailed

SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Unit:
    """A value of it is `value * size + zero` base units of its quantity; `plural` is how a sentence calls it."""

    quantity: str
    plural: str
    size: Fraction
    zero: Fraction = Fraction(0)


# One unit a line: size | plural | further spellings. Singulars of regular plurals are implied, and so are "square" and
# "cubic" spelled "sq" and "cu", "per" spelled "/", British "metre" and "litre", and powers written ^2, ² or 2.
_TABLE = MappingProxyType(
    {
        "length": """
            1e-9     | nanometers     | nm
            1e-6     | micrometers    | um, µm, μm, microns
            0.001    | millimeters    | mm
            0.01     | centimeters    | cm
            0.1      | decimeters     | dm
            1        | meters         | m
            1000     | kilometers     | km, kms
            0.0254   | inches         | in, inch, ", ″
            0.3048   | feet           | ft, foot, ', ′
            0.9144   | yards          | yd, yds
            1609.344 | miles          | mi
            1852     | nautical miles | nmi
            149597870700 | astronomical units | au
            9460730472580800 | light years | ly
        """,
        "mass": """
            1e-9         | micrograms  | ug, µg, μg, mcg
            1e-6         | milligrams  | mg
            0.001        | grams       | g, gm
            1            | kilograms   | kg, kgs, kilos
            1000         | tonnes      | t, metric tons
            0.028349523125 | ounces    | oz
            0.45359237   | pounds      | lb, lbs
            6.35029318   | stone       | st, stones
            907.18474    | tons        | short tons, us tons
            1016.0469088 | long tons   | imperial tons, uk tons
            0.0002       | carats      | ct
        """,
        "volume": """
            0.001          | milliliters   | ml, cc, cubic centimeters, cm3
            0.01           | centiliters   | cl
            0.1            | deciliters    | dl
            1              | liters        | l, cubic decimeters, dm3
            1000           | cubic meters  | m3
            0.016387064    | cubic inches  | cubic inch, in3
            28.316846592   | cubic feet    | ft3, cubic foot
            0.00492892159375 | teaspoons   | tsp
            0.01478676478125 | tablespoons | tbsp
            0.0295735295625 | fluid ounces | fl oz, floz, us fluid ounces
            0.2365882365   | cups          | us cups
            0.473176473    | pints         | pt, us pints
            0.946352946    | quarts        | qt, us quarts
            3.785411784    | gallons       | gal, us gallons
            158.987294928  | barrels       | bbl
            0.0284130625   | imperial fluid ounces | uk fluid ounces
            0.56826125     | imperial pints | uk pints
            4.54609        | imperial gallons | uk gallons
        """,
        "area": """
            1e-6          | square millimeters | mm2
            0.0001        | square centimeters | cm2
            1             | square meters      | m2
            10000         | hectares           | ha
            1000000       | square kilometers  | km2
            0.00064516    | square inches      | in2, square inch
            0.09290304    | square feet        | ft2, square foot, sqft
            0.83612736    | square yards       | yd2
            4046.8564224  | acres              | ac
            2589988.110336 | square miles      | mi2
        """,
        "speed": """
            1          | meters per second     | m/s, mps
            1/3.6      | kilometers per hour   | km/h, kmh, kph, kmph
            1000       | kilometers per second | km/s
            0.44704    | miles per hour        | mph, mi/h
            0.3048     | feet per second       | foot per second, ft/s, fps
            1852/3600  | knots                 | kn, kt, kts
        """,
        "time": """
            1e-9    | nanoseconds  | ns
            1e-6    | microseconds | us, µs, μs
            0.001   | milliseconds | ms, msec, msecs
            1       | seconds      | s, sec, secs
            60      | minutes      | min, mins
            3600    | hours        | h, hr, hrs
            86400   | days         | d
            604800  | weeks        | wk, wks
            1209600 | fortnights   |
            2628000 | months       | mo
            31536000 | years       | y, yr, yrs
            315360000 | decades    |
            3153600000 | centuries | century
        """,
        "data": """
            0.125          | bits       | b
            1              | bytes      | B
            125            | kilobits   | kbit, Kb
            125000         | megabits   | Mb, mbit
            125000000      | gigabits   | Gb, gbit
            1000           | kilobytes  | kB, KB, kb
            1e6            | megabytes  | MB, mb
            1e9            | gigabytes  | GB, gb
            1e12           | terabytes  | TB, tb
            1e15           | petabytes  | PB, pb
            1024           | kibibytes  | KiB
            1048576        | mebibytes  | MiB
            1073741824     | gibibytes  | GiB
            1099511627776  | tebibytes  | TiB
        """,
    }
)
_TEMPERATURES = (
    (Unit("temperature", "degrees Celsius", Fraction(1), Fraction("273.15")), "c celsius centigrade"),
    (Unit("temperature", "degrees Fahrenheit", Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)), "f fahrenheit"),
    (Unit("temperature", "kelvins", Fraction(1)), "k kelvin kelvins"),
)


def convert(value: float, from_unit: str, to_unit: str) -> int | float:
    """The value in the other unit, to six significant digits, an int where it is whole; ToolFailed if there is none."""
    source, target = find(from_unit), find(to_unit)
    if source.quantity != target.quantity:
        raise ToolFailed(f"cannot convert {source.plural} to {target.plural}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolFailed("the value is not a finite number")
    base = Fraction(value) * source.size + source.zero
    if source.quantity == "temperature" and base < Fraction(-1, 10**9):
        raise ToolFailed("the temperature is below absolute zero")
    return _rounded((base - target.zero) / target.size)


def find(spelling: str) -> Unit:
    """The unit of this spelling; ToolFailed if there is none."""
    name = _normal(spelling)
    table = _spellings()
    unit = table.get(name) or table.get(name.casefold())
    if unit is None:
        raise ToolFailed(f"unknown unit {spelling[:40]!r}")
    return unit


def _rounded(value: Fraction) -> int | float:
    try:
        short = float(f"{float(value):.{SIGNIFICANT_DIGITS}g}")
    except OverflowError:
        raise ToolFailed("the result is too large") from None
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _normal(spelling: str) -> str:
    """One way of writing it: single spaces, American words, powers as a digit, "/h" and "/s"; capitals stay."""
    name = spelling.strip().replace("²", "2").replace("³", "3")
    for pattern, replacement in _REWRITES:
        name = pattern.sub(replacement, name)
    return name


_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"[\s_-]+", " "),
        (r"[.^]", ""),
        (r"^(°|º|deg |degrees? )\s*", ""),
        (r"(met|lit)re", r"\1er"),
        (r"gramme", "gram"),
        (r"(?: per | ?/ ?)(h|s)(r|ec|our|econd)?$", r"/\1"),
        (r"(?<=[a-z]{2})s(?=/)", ""),
        (r"^(square|sq) ", "square "),
        (r"^(cubic|cu) ", "cubic "),
        (r"^square (mm|cm|dm|m|km|in|ft|yd|mi)$", r"\g<1>2"),
        (r"^cubic (mm|cm|dm|m|km|in|ft|yd|mi)$", r"\g<1>3"),
        (r"(?<=[a-z]) (?=[23]$)", ""),
    )
)


@functools.cache
def _spellings() -> Mapping[str, Unit]:
    """Every spelling as written, and in small letters the first unit that claims it."""
    table: dict[str, Unit] = {}
    for unit, spelling in _entries():
        table.setdefault(spelling, unit)
    for spelling, unit in list(table.items()):
        table.setdefault(spelling.casefold(), unit)
    return MappingProxyType(table)


def _entries() -> Iterator[tuple[Unit, str]]:
    for quantity, lines in _TABLE.items():
        for line in lines.strip().splitlines():
            size, plural, others = (part.strip() for part in line.split("|"))
            unit = Unit(quantity, plural, _fraction(size))
            for spelling in [plural, *filter(None, others.split(", "))]:
                yield unit, _normal(spelling)
                if len(spelling) > 3 and spelling.endswith("s"):
                    yield unit, _normal(spelling.removesuffix("s"))
    for unit, spellings in _TEMPERATURES:
        for spelling in spellings.split():
            yield unit, spelling


def _fraction(text: str) -> Fraction:
    numerator, _, denominator = text.partition("/")
    return Fraction(numerator) / Fraction(denominator or "1")
