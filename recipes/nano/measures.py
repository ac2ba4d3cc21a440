"""Unit conversion and text statistics: the user's unit becomes one spelling, the user's text is copied letter by letter."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random

from recipes.nano import stories, words
from recipes.nano.arithmetic import spelled
from recipes.nano.exchange import Call, Exchange, Number
from recipes.nano.phrases import casual, choose, decimal, figure, integer, say
from recipes.nano.stories import framed

# quantity -> the spelling that is called -> singular, plural and further spellings that users write.
_UNITS: dict[str, dict[str, tuple[str, ...]]] = {
    "length": {
        "km": ("kilometer", "kilometers", "kilometres", "km", "kms"), "m": ("meter", "meters", "metres", "m"),
        "cm": ("centimeter", "centimeters", "centimetres", "cm"), "mm": ("millimeter", "millimeters", "millimetres", "mm"),
        "mi": ("mile", "miles", "miles", "mi"), "ft": ("foot", "feet", "feet", "ft"),
        "in": ("inch", "inches", "inches", "in"), "yd": ("yard", "yards", "yards", "yd"),
        "nmi": ("nautical mile", "nautical miles"), "ly": ("light year", "light years"),
        "micrometers": ("micrometer", "micrometers", "microns"), "nm": ("nanometer", "nanometers", "nm"),
    },
    "mass": {
        "kg": ("kilogram", "kilograms", "kilos", "kg", "kgs"), "g": ("gram", "grams", "grams", "g"),
        "mg": ("milligram", "milligrams", "mg"), "lb": ("pound", "pounds", "lbs", "lb"),
        "oz": ("ounce", "ounces", "ounces", "oz"), "t": ("tonne", "tonnes", "metric tons"), "st": ("stone", "stone"),
        "tons": ("ton", "tons", "short tons"), "carats": ("carat", "carats"),
    },
    "volume": {
        "l": ("liter", "liters", "litres", "l"), "ml": ("milliliter", "milliliters", "millilitres", "ml"),
        "gal": ("gallon", "gallons", "gallons", "gal"), "cups": ("cup", "cups"), "pt": ("pint", "pints"),
        "qt": ("quart", "quarts"), "tbsp": ("tablespoon", "tablespoons", "tbsp"), "tsp": ("teaspoon", "teaspoons", "tsp"),
        "m3": ("cubic meter", "cubic meters", "cubic metres"), "fl oz": ("fluid ounce", "fluid ounces", "fl oz"),
        "cl": ("centiliter", "centiliters", "centilitres", "cl"), "dl": ("deciliter", "deciliters", "decilitres", "dl"),
        "cm3": ("cubic centimeter", "cubic centimeters", "cm3", "cc"), "ft3": ("cubic foot", "cubic feet", "cu ft"),
        "in3": ("cubic inch", "cubic inches"), "barrels": ("barrel", "barrels"),
        "imperial gallons": ("imperial gallon", "imperial gallons"), "imperial pints": ("imperial pint", "imperial pints"),
    },
    "temperature": {
        "°C": ("degree Celsius", "degrees Celsius", "°C", "Celsius", "C", "celsius", "degrees C"),
        "°F": ("degree Fahrenheit", "degrees Fahrenheit", "°F", "Fahrenheit", "F", "fahrenheit", "degrees F"),
        "K": ("kelvin", "kelvins", "K", "Kelvin", "kelvin"),
    },
    "speed": {
        "km/h": ("kilometer per hour", "kilometers per hour", "km/h", "kmh", "kph", "kilometres per hour", "kilometers an hour"),
        "mph": ("mile per hour", "miles per hour", "mph", "miles an hour"),
        "m/s": ("meter per second", "meters per second", "m/s", "meters a second"),
        "knots": ("knot", "knots"), "ft/s": ("foot per second", "feet per second"),
    },
    "area": {
        "m2": ("square meter", "square meters", "square metres", "m2", "m²"), "ha": ("hectare", "hectares", "ha"),
        "acres": ("acre", "acres"), "ft2": ("square foot", "square feet", "square feet", "sq ft", "ft²"), "km2": ("square kilometer", "square kilometers", "km2", "km²"),
        "mi2": ("square mile", "square miles"), "cm2": ("square centimeter", "square centimeters", "cm2"),
        "yd2": ("square yard", "square yards"), "in2": ("square inch", "square inches"),
    },
    "time": {
        "s": ("second", "seconds", "seconds", "sec"), "min": ("minute", "minutes", "minutes", "min"),
        "h": ("hour", "hours", "hours", "h"), "days": ("day", "days", "days"), "weeks": ("week", "weeks", "weeks"),
        "months": ("month", "months"), "years": ("year", "years", "years"), "ms": ("millisecond", "milliseconds", "ms"),
        "decades": ("decade", "decades"), "centuries": ("century", "centuries"), "fortnights": ("fortnight", "fortnights"),
    },
    "data": {
        "bytes": ("byte", "bytes"), "bits": ("bit", "bits"), "kB": ("kilobyte", "kilobytes", "kB", "KB"),
        "MB": ("megabyte", "megabytes", "MB"), "GB": ("gigabyte", "gigabytes", "GB"), "TB": ("terabyte", "terabytes", "TB"),
        "KiB": ("kibibyte", "kibibytes", "KiB"), "MiB": ("mebibyte", "mebibytes", "MiB"), "GiB": ("gibibyte", "gibibytes", "GiB"),
        "megabits": ("megabit", "megabits", "Mbit"), "gigabits": ("gigabit", "gigabits", "Gbit"),
        "PB": ("petabyte", "petabytes", "PB"),
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
    if rng.random() < 0.38:
        return _converted_in_a_story(rng, quantity, source, target, value)
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
    return _converted(rng, framed(rng, user) if rng.random() < 0.05 else user, value, source, target)


def _converted(rng: random.Random, user: str, value: str, source: str, target: str) -> Exchange:
    result = figure(rng)
    call = Call("convert_units", {"value": Number(value), "from_unit": source, "to_unit": target}, result)
    return Exchange(casual(rng, user), f"{value} {source} = {result} {target}.", (call,), result)


def _converted_in_a_story(rng: random.Random, quantity: str, source: str, target: str, value: str) -> Exchange:
    """The value as a story tells it: in letters, with a half, with commas; the unit in any of its spellings."""
    own = stories.CONVERSIONS[quantity]
    pattern = choose(rng, rng.choice(own if rng.random() < 0.6 else stories.CONVERSIONS[""]))
    singular, plural = _UNITS[quantity][source][:2]
    article = "an" if singular[0] in "aeio" or singular == "hour" else "a"
    form = rng.random() if quantity != "temperature" and "{h}" not in pattern else 1.0
    if form < 0.16:
        number = rng.choice((rng.randrange(1, 13), rng.randrange(1, 21), rng.randrange(1, 101)))
        value, shown = (
            str(number),
            f"{spelled(number)} {plural}" if number > 1 else f"{rng.choice((article, 'one'))} {singular}",
        )
    elif form < 0.19:
        value, shown = "0.5", f"half {article} {singular}"
    elif form < 0.22:
        number = rng.randrange(1, 13)
        value, shown = f"{number}.5", f"{spelled(number)} and a half {plural}"
    else:
        digits = f"{int(value):,}" if value.isdigit() and len(value) > 3 and rng.random() < 0.2 else value
        spelling = singular if value == "1" else rng.choice(_UNITS[quantity][source][1:])
        shown = digits + ("" if len(spelling) < 4 and rng.random() < 0.5 else " ") + spelling
    user = say(
        rng, pattern, x=shown, h=f"{value}-{singular}", w=rng.choice(_UNITS[quantity][target][1:]), k=rng.randrange(2, 500),
        name=rng.choice(words.NAMES[:-6]),
    )  # fmt: skip
    return _converted(rng, user[0].upper() + user[1:] if not user.startswith(shown) else user, value, source, target)


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
    story = rng.random() < 0.4
    if story and rng.random() < 0.12:
        text += rng.choice(("\n", "\n", "\n\n")) + sentence(rng)
    quoted = say(rng, '["{t}"|"{t}"|"{t}"|\'{t}\'|“{t}”]' if "'" not in text else '"{t}"', t=text)
    kind = rng.choices(("words", "characters", "sentences", "lines", "all"), (6, 5, 2, 1, 3))[0]
    if story:
        user, answer = _counted_in_a_story(rng, kind, text, quoted)
    elif kind == "all":
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
    user = user[0].lower() + user[1:] if rng.random() < 0.25 and not user.startswith(text) else user
    return Exchange(user, answer, (call,))


def _counted_in_a_story(rng: random.Random, kind: str, text: str, quoted: str) -> tuple[str, str]:
    """What is said, and the answer's pattern."""
    if kind == "all" and rng.random() < 0.4:
        return say(rng, rng.choice(stories.BOTH), q=quoted), "It has {words} words and {characters} characters."
    if kind == "all":
        return say(rng, rng.choice(stories.EVERYTHING), q=quoted), _FULL
    counted = rng.choice((kind, kind, "letters")) if kind == "characters" else kind
    pattern = choose(rng, rng.choice(stories.QUOTED if rng.random() < 0.68 else stories.PLAIN))
    gap = "" if "\n{gap}" in pattern else " "
    user = pattern.format(q=quoted, t=text, k=counted, gap=gap, n=rng.randrange(2, 300))
    return (user if user.startswith(text) else user[0].upper() + user[1:]), _COUNT[kind][1]


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
    if kind < 0.93:
        return rng.choice(_SHORTENED)
    if kind < 0.95:
        return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(1, 5)))
    return integer(rng) if kind < 0.975 else rng.choice(words.NAMES)


_SHORTENED = (
    "don't", "it's", "I'm", "can't", "we'll", "o'clock", "well-known", "re-read", "e.g.", "Mr.", "U.S.", "50%", "#1", "&", "-",
    "www.example.com", "twenty-one", "(maybe)", "10:30", "3.14", "they're", "let's", "A/B", "OK", "NASA", "café", "naïve",
)  # fmt: skip
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
