"""Unit conversion and text statistics: the user's unit becomes one spelling, the user's text is copied letter by letter."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random

from recipes.nano import words
from recipes.nano.exchange import Call, Exchange, Number
from recipes.nano.phrases import casual, decimal, figure, integer, say

# quantity -> the spelling that is called -> singular, plural and further spellings that users write.
_UNITS: dict[str, dict[str, tuple[str, ...]]] = {
    "length": {
        "km": ("kilometer", "kilometers", "kilometres", "km", "kms"), "m": ("meter", "meters", "metres", "m"),
        "cm": ("centimeter", "centimeters", "centimetres", "cm"), "mm": ("millimeter", "millimeters", "millimetres", "mm"),
        "mi": ("mile", "miles", "miles", "mi"), "ft": ("foot", "feet", "feet", "ft"),
        "in": ("inch", "inches", "inches", "in"), "yd": ("yard", "yards", "yards", "yd"),
        "nmi": ("nautical mile", "nautical miles"), "ly": ("light year", "light years"),
    },
    "mass": {
        "kg": ("kilogram", "kilograms", "kilos", "kg", "kgs"), "g": ("gram", "grams", "grams", "g"),
        "mg": ("milligram", "milligrams", "mg"), "lb": ("pound", "pounds", "lbs", "lb"),
        "oz": ("ounce", "ounces", "ounces", "oz"), "t": ("tonne", "tonnes", "metric tons"), "st": ("stone", "stone"),
    },
    "volume": {
        "l": ("liter", "liters", "litres", "l"), "ml": ("milliliter", "milliliters", "millilitres", "ml"),
        "gal": ("gallon", "gallons", "gallons", "gal"), "cups": ("cup", "cups"), "pt": ("pint", "pints"),
        "qt": ("quart", "quarts"), "tbsp": ("tablespoon", "tablespoons", "tbsp"), "tsp": ("teaspoon", "teaspoons", "tsp"),
        "m3": ("cubic meter", "cubic meters", "cubic metres"), "fl oz": ("fluid ounce", "fluid ounces", "fl oz"),
    },
    "temperature": {
        "°C": ("degree Celsius", "degrees Celsius", "°C", "Celsius", "C", "celsius", "degrees C"),
        "°F": ("degree Fahrenheit", "degrees Fahrenheit", "°F", "Fahrenheit", "F", "fahrenheit", "degrees F"),
        "K": ("kelvin", "kelvins", "K", "Kelvin", "kelvin"),
    },
    "speed": {
        "km/h": ("kilometer per hour", "kilometers per hour", "km/h", "kmh", "kph", "kilometres per hour"),
        "mph": ("mile per hour", "miles per hour", "mph"), "m/s": ("meter per second", "meters per second", "m/s"),
        "knots": ("knot", "knots"),
    },
    "area": {
        "m2": ("square meter", "square meters", "square metres", "m2", "m²"), "ha": ("hectare", "hectares", "ha"),
        "acres": ("acre", "acres"), "ft2": ("square foot", "square feet"), "km2": ("square kilometer", "square kilometers", "km2", "km²"),
        "mi2": ("square mile", "square miles"),
    },
    "time": {
        "s": ("second", "seconds", "seconds"), "min": ("minute", "minutes", "minutes", "min"),
        "h": ("hour", "hours", "hours", "h"), "days": ("day", "days", "days"), "weeks": ("week", "weeks", "weeks"),
        "months": ("month", "months"), "years": ("year", "years", "years"), "ms": ("millisecond", "milliseconds", "ms"),
    },
    "data": {
        "bytes": ("byte", "bytes"), "bits": ("bit", "bits"), "kB": ("kilobyte", "kilobytes", "kB", "KB"),
        "MB": ("megabyte", "megabytes", "MB"), "GB": ("gigabyte", "gigabytes", "GB"), "TB": ("terabyte", "terabytes", "TB"),
        "KiB": ("kibibyte", "kibibytes", "KiB"), "MiB": ("mebibyte", "mebibytes", "MiB"), "GiB": ("gibibyte", "gibibytes", "GiB"),
    },
}  # fmt: skip
_WEIGHTS = {"length": 6, "mass": 4, "volume": 3, "temperature": 4, "speed": 2, "area": 2, "time": 3, "data": 2}

_CONVERT = (
    "[Convert|Change|Turn|Please convert|Can you convert|Could you convert|I want to convert|Help me convert] {v}{u} [to|into|in] {w}[.|?|]",
    "[What is|What's|How much is|How much are|What are|whats] {v}{u} in {w}[?|]",
    "[How many|How much] {w} [are|is|are in|is in|are there in|make] {v}{u}[?|]",
    "[How many {w} does {v}{u} make|How many {w} do I get for {v}{u}|How many {w} fit in {v}{u}|How many {w} has {v}{u}][?|]",
    "{v}{u} [to|in|into|->|as|=] {w}[?|]",
    "{v}{u} [is|are|equals|is equal to|equal|makes] how [many|much] {w}[?|]",
    "[Express|Give me|Tell me|Show me|Write|I need] {v}{u} in {w}[.|]",
    "[If|When] [it is|something is|I have] {v}{u}, [how much|what] is [that|it] in {w}?",
    "[My|The] [room|car|dog|bag|road|table|recipe|box] [is|has|needs|takes] {v}{u}. [What|How much] is that in {w}?",
    "[How long|How far|How heavy|How hot|How big|How large] is {v}{u} in {w}[?|]",
    "[Use the unit converter|Use convert_units|Conversion|Units|Unit conversion][: | to get ]{v}{u} [in|to] {w}[.|?|]",
    "In {w}, [how much|what] is {v}{u}[?|]",
)


def convert_units(rng: random.Random, _: str) -> Exchange:
    quantity = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    source, target = rng.sample(list(_UNITS[quantity]), 2)
    value = rng.choice((integer(rng, rng.choice((1, 1, 2, 2, 3, 4))), integer(rng), decimal(rng)))
    value = "-" + value if quantity == "temperature" and rng.random() < 0.2 and value != "0" else value
    one = rng.random() < 0.06
    shown = rng.choice(("a", "one", "1")) if one else value
    value = "1" if one else value
    spelling = (
        _UNITS[quantity][source][0] if value == "1" and rng.random() < 0.9 else rng.choice(_UNITS[quantity][source][1:])
    )
    joined = len(spelling) < 4 and shown[-1].isdigit() and rng.random() < 0.5
    user = say(
        rng,
        rng.choice(_CONVERT),
        v=shown,
        u=spelling if joined else " " + spelling,
        w=rng.choice(_UNITS[quantity][target][1:]),
    )
    result = figure(rng)
    call = Call("convert_units", {"value": Number(value), "from_unit": source, "to_unit": target}, result)
    return Exchange(casual(rng, user), f"{value} {source} = {result} {target}.", (call,), result)


_COUNT = {
    "words": ("[How many words are|How many words are there|Count the words|What is the number of words|Number of words|Word count|"
              "Tell me how many words are|How many words do you see|Give me the word count]", "It has {words} words."),
    "characters": ("[How many characters are|How many characters are there|How many letters are|Count the characters|Count the letters|"
                   "Number of characters|How many letters are there|Tell me how many characters are|Character count]",
                   "It has {characters} characters."),
    "sentences": ("[How many sentences are|How many sentences are there|Count the sentences|Number of sentences|Tell me how many sentences are]",
                  "It has {sentences} sentences."),
    "lines": ("[How many lines are|Count the lines|How many lines are there|Number of lines]", "It has {lines} lines."),
}  # fmt: skip
_HAS = "[How many {k} does|How many {k} has] {q}[ have| contain|][?|]"
_LENGTH = "[How long is|What is the length of|What's the length of] {q}[?| in characters?|]"
_ALL = (
    "[Give me|Show me|Tell me|Compute|Work out|I need|What are] the [statistics|text statistics|stats] [of|for] {q}[.|?|]",
    "[Analyze|Analyse|Text statistics for|Text statistics:|Count everything in|Statistics for|Analyse this text:|Analyze the text] {q}[.|]",
)
_FULL = "It has {characters} characters, {words} words, {sentences} sentences and {lines} lines."
_SINGULAR = (" 1 characters", " 1 words", " 1 sentences", " 1 lines")


def text_statistics(rng: random.Random, _: str) -> Exchange:
    text = sentence(rng)
    quoted = say(rng, '["{t}"|"{t}"|"{t}"|\'{t}\'|“{t}”]' if "'" not in text else '"{t}"', t=text)
    kind = rng.choices(("words", "characters", "sentences", "lines", "all"), (6, 5, 2, 1, 3))[0]
    if kind == "all":
        user, answer = say(rng, rng.choice(_ALL), q=quoted), _FULL
    else:
        ask, answer = _COUNT[kind]
        form = rng.random()
        if form < 0.5:
            user = say(
                rng,
                ask
                + " [in|in the text|in this text:|in the sentence|in this sentence:|in the phrase|in this:] {q}[?|]",
                q=quoted,
            )
        elif form < 0.65:
            user = say(
                rng,
                ask + " [in this text|in this sentence|in this|in the following|in the following text|here|in]: {t}",
                t=text,
            )
        elif form < 0.92 or kind != "characters":
            user = say(rng, _HAS, k=rng.choice((kind, "letters")) if kind == "characters" else kind, q=quoted)
        else:
            user = say(rng, _LENGTH, q=quoted)
    result = {
        "characters": rng.randrange(1, 400),
        "words": rng.randrange(1, 120),
        "sentences": rng.randrange(1, 20),
        "lines": rng.randrange(1, 9),
    }
    call = Call("text_statistics", {"text": text}, json.dumps(result))
    answer = answer.format(**result)
    for plural in _SINGULAR:
        answer = (
            answer.replace(plural + ".", plural[:-1] + ".")
            .replace(plural + ",", plural[:-1] + ",")
            .replace(plural + " ", plural[:-1] + " ")
        )
    user = user[0].lower() + user[1:] if rng.random() < 0.25 else user
    return Exchange(user, answer, (call,))


def sentence(rng: random.Random) -> str:
    """Words in any order, sometimes with capitals, commas, names, numbers and several sentences."""
    if rng.random() < 0.2:
        return _word(rng)
    parts = []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 3))):
        body = [_word(rng) for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 8)))]
        body = [word + "," if rng.random() < 0.06 and word is not body[-1] else word for word in body]
        body[0] = body[0].capitalize() if rng.random() < 0.5 else body[0]
        parts.append(" ".join(body))
    if len(parts) == 1:
        return parts[0] + rng.choice(("", "", ".", "!", "?"))
    return " ".join(part + rng.choice(".!?.") for part in parts)


def _word(rng: random.Random) -> str:
    """Mostly a common word; else a number, a name, or a word that nobody has seen."""
    kind = rng.random()
    if kind < 0.92:
        return rng.choice(words.COMMON)
    if kind < 0.95:
        return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(1, 5)))
    return integer(rng) if kind < 0.975 else rng.choice(words.NAMES)


_SYLLABLES = tuple(
    a + b
    for a in [
        "b",
        "c",
        "d",
        "f",
        "g",
        "h",
        "j",
        "k",
        "l",
        "m",
        "n",
        "p",
        "r",
        "s",
        "t",
        "v",
        "w",
        "z",
        "br",
        "cl",
        "st",
        "th",
        "sh",
    ]
    for b in ["a", "e", "i", "o", "u", "ai", "ea", "er", "in", "on"]
)
