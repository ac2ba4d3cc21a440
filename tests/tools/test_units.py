"""Units of measure: the sizes are right to every digit that is shown, and people may spell as they like."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from headrace.errors import ToolFailed
from headrace.tools import units
from headrace.tools.builtin import convert_units


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "result"),
    [
        (5, "km", "mi", 3.10686),
        (1, "mi", "m", 1609.34),
        (1000, "mi", "m", 1609340),
        (1, "nautical mile", "km", 1.852),
        (3, "feet", "inches", 36),
        (6.5, "ft", "m", 1.9812),
        (10, "pounds", "kg", 4.53592),
        (16, "oz", "lb", 1),
        (11, "stone", "kg", 69.8532),
        (2, "tons", "kg", 1814.37),
        (2, "metric tons", "kg", 2000),
        (1, "gallon", "liters", 3.78541),
        (1, "imperial gallon", "liters", 4.54609),
        (3, "cups", "tbsp", 48),
        (1, "cubic meter", "L", 1000),
        (100, "celsius", "fahrenheit", 212),
        (32, "°F", "°C", 0),
        (-40, "F", "C", -40),
        (98.6, "F", "C", 37),
        (0, "C", "K", 273.15),
        (0, "K", "degrees Fahrenheit", -459.67),
        (100, "km/h", "mph", 62.1371),
        (10, "m/s", "km/h", 36),
        (20, "knots", "km/h", 37.04),
        (1, "acre", "m2", 4046.86),
        (1, "square mile", "acres", 640),
        (2, "hours", "minutes", 120),
        (3, "weeks", "days", 21),
        (2, "years", "months", 24),
        (1, "GB", "MB", 1000),
        (1, "GiB", "MiB", 1024),
        (8, "Mb", "MB", 1),
        (8, "mb", "MB", 8),
        (1e30, "m", "km", 1e27),
    ],
)
def test_conversions(value: float, from_unit: str, to_unit: str, result: float) -> None:
    found = convert_units(value, from_unit, to_unit)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("spellings", "plural"),
    [
        (["kilometer", "Kilometers", "kilometre", "KM", "kms", " km "], "kilometers"),
        (["kilogramme", "kilogrammes", "kilo", "KG", "kg.", "Kilograms"], "kilograms"),
        (["foot", "Feet", "ft.", "'"], "feet"),
        (["square foot", "sq feet", "sq. ft.", "ft2", "ft²", "ft^2", "ft 2", "Square Feet", "sqft"], "square feet"),
        (["square metre", "sq m", "m²", "M^2"], "square meters"),
        (["cubic centimetre", "cu cm", "cm3", "cm^3", "cc", "Cu. cm"], "milliliters"),
        (["cubic foot", "cu ft", "Cubic Feet", "cu. feet"], "cubic feet"),
        (["fluid_ounce", "fluid-ounces", "fl. oz.", "fl  oz"], "fluid ounces"),
        (
            ["km/h", "kph", "km per hour", "kilometers per hour", "kilometre per hour", "km / hr", "kms/hour"],
            "kilometers per hour",
        ),
        (["m/s", "meter per second", "metres per second", "m/sec"], "meters per second"),
        (["mile per hour", "miles / hour", "MPH"], "miles per hour"),
        (["°C", "c", "degree celsius", "degrees Celsius", "deg C", "centigrade", "º C"], "degrees Celsius"),
        (["century", "centuries", "Century"], "centuries"),
        (["B", "byte", "Bytes"], "bytes"),
        (["b", "bit", "Bits"], "bits"),
    ],
)
def test_spellings(spellings: list[str], plural: str) -> None:
    assert {spelling: units.find(spelling).plural for spelling in spellings} == dict.fromkeys(spellings, plural)


def test_every_unit_goes_there_and_back() -> None:
    every = {unit.plural: unit for unit in units._spellings().values()}
    assert len(every) > 80
    for unit in every.values():
        assert units.find(unit.plural) == unit
        base = next(other for other in every.values() if other.quantity == unit.quantity and other.size == 1)
        there = (Fraction(300) * unit.size + unit.zero - base.zero) / base.size
        assert convert_units(300, unit.plural, base.plural) == pytest.approx(float(there), rel=5e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((1, "kg", "m"), "cannot convert kilograms to meters"),
        ((1, "smoots", "m"), "unknown unit 'smoots'"),
        ((1, "m", ""), "unknown unit ''"),
        ((-300, "C", "K"), "below absolute zero"),
        ((float("nan"), "m", "km"), "finite"),
        ((float("inf"), "m", "km"), "finite"),
        ((10**400, "m", "km"), "too large"),
    ],
)
def test_impossible_conversions_are_sentences(arguments: Any, sentence: str) -> None:
    with pytest.raises(ToolFailed, match=sentence):
        convert_units(*arguments)
