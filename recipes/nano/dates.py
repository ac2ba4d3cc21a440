"""The clock and the calendar: `current_time`, `add_to_date` and `days_between` in ordinary wordings."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import datetime
import json
import random

from recipes.nano import stories
from recipes.nano.arithmetic import spelled
from recipes.nano.exchange import Call, Exchange
from recipes.nano.phrases import casual, choose, count, integer, say
from recipes.nano.problems import ordinal
from recipes.nano.stories import framed

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

CITIES = {
    "Paris": "Europe/Paris", "London": "Europe/London", "Berlin": "Europe/Berlin", "Madrid": "Europe/Madrid",
    "Rome": "Europe/Rome", "Vienna": "Europe/Vienna", "Zurich": "Europe/Zurich", "Amsterdam": "Europe/Amsterdam",
    "Brussels": "Europe/Brussels", "Lisbon": "Europe/Lisbon", "Dublin": "Europe/Dublin", "Oslo": "Europe/Oslo",
    "Stockholm": "Europe/Stockholm", "Copenhagen": "Europe/Copenhagen", "Helsinki": "Europe/Helsinki",
    "Warsaw": "Europe/Warsaw", "Prague": "Europe/Prague", "Budapest": "Europe/Budapest", "Athens": "Europe/Athens",
    "Istanbul": "Europe/Istanbul", "Moscow": "Europe/Moscow", "Kyiv": "Europe/Kyiv", "Tokyo": "Asia/Tokyo",
    "Seoul": "Asia/Seoul", "Shanghai": "Asia/Shanghai", "Hong Kong": "Asia/Hong_Kong", "Singapore": "Asia/Singapore",
    "Bangkok": "Asia/Bangkok", "Jakarta": "Asia/Jakarta", "Dubai": "Asia/Dubai", "Delhi": "Asia/Kolkata",
    "Mumbai": "Asia/Kolkata", "Kolkata": "Asia/Kolkata", "Karachi": "Asia/Karachi", "Tehran": "Asia/Tehran",
    "Cairo": "Africa/Cairo", "Lagos": "Africa/Lagos", "Nairobi": "Africa/Nairobi",
    "Johannesburg": "Africa/Johannesburg", "Sydney": "Australia/Sydney", "Melbourne": "Australia/Melbourne",
    "Auckland": "Pacific/Auckland", "Honolulu": "Pacific/Honolulu", "New York": "America/New_York",
    "Boston": "America/New_York", "Chicago": "America/Chicago", "Denver": "America/Denver",
    "Los Angeles": "America/Los_Angeles", "San Francisco": "America/Los_Angeles", "Seattle": "America/Los_Angeles",
    "Toronto": "America/Toronto", "Vancouver": "America/Vancouver", "Mexico City": "America/Mexico_City",
    "Lima": "America/Lima", "Bogota": "America/Bogota", "Sao Paulo": "America/Sao_Paulo",
    "Buenos Aires": "America/Argentina/Buenos_Aires", "UTC": "UTC",
    "Milan": "Europe/Rome", "Naples": "Europe/Rome", "Munich": "Europe/Berlin", "Hamburg": "Europe/Berlin",
    "Frankfurt": "Europe/Berlin", "Barcelona": "Europe/Madrid", "Seville": "Europe/Madrid", "Geneva": "Europe/Zurich",
    "Lyon": "Europe/Paris", "Marseille": "Europe/Paris", "Manchester": "Europe/London", "Edinburgh": "Europe/London",
    "Bucharest": "Europe/Bucharest", "Sofia": "Europe/Sofia", "Belgrade": "Europe/Belgrade", "Zagreb": "Europe/Zagreb",
    "Vilnius": "Europe/Vilnius", "Riga": "Europe/Riga", "Tallinn": "Europe/Tallinn", "Luxembourg": "Europe/Luxembourg",
    "Reykjavik": "Atlantic/Reykjavik", "Osaka": "Asia/Tokyo", "Kyoto": "Asia/Tokyo", "Beijing": "Asia/Shanghai",
    "Taipei": "Asia/Taipei", "Manila": "Asia/Manila", "Kuala Lumpur": "Asia/Kuala_Lumpur", "Hanoi": "Asia/Ho_Chi_Minh",
    "Bangalore": "Asia/Kolkata", "Chennai": "Asia/Kolkata", "Dhaka": "Asia/Dhaka", "Colombo": "Asia/Colombo",
    "Kathmandu": "Asia/Kathmandu", "Riyadh": "Asia/Riyadh", "Doha": "Asia/Qatar", "Baghdad": "Asia/Baghdad",
    "Tel Aviv": "Asia/Jerusalem", "Jerusalem": "Asia/Jerusalem", "Beirut": "Asia/Beirut", "Abu Dhabi": "Asia/Dubai",
    "Casablanca": "Africa/Casablanca", "Algiers": "Africa/Algiers", "Tunis": "Africa/Tunis", "Accra": "Africa/Accra",
    "Cape Town": "Africa/Johannesburg", "Addis Ababa": "Africa/Addis_Ababa", "Brisbane": "Australia/Brisbane",
    "Perth": "Australia/Perth", "Adelaide": "Australia/Adelaide", "Wellington": "Pacific/Auckland",
    "Montreal": "America/Toronto", "Ottawa": "America/Toronto", "Washington": "America/New_York",
    "Miami": "America/New_York", "Atlanta": "America/New_York", "Philadelphia": "America/New_York",
    "Houston": "America/Chicago", "Dallas": "America/Chicago", "Phoenix": "America/Phoenix",
    "Las Vegas": "America/Los_Angeles", "San Diego": "America/Los_Angeles", "Portland": "America/Los_Angeles",
    "Anchorage": "America/Anchorage", "Havana": "America/Havana", "Caracas": "America/Caracas",
    "Rio de Janeiro": "America/Sao_Paulo", "Montevideo": "America/Montevideo", "Japan": "Asia/Tokyo",
    "India": "Asia/Kolkata", "Germany": "Europe/Berlin", "France": "Europe/Paris", "Italy": "Europe/Rome",
    "Spain": "Europe/Madrid", "Poland": "Europe/Warsaw", "Sweden": "Europe/Stockholm", "Norway": "Europe/Oslo",
    "Ireland": "Europe/Dublin", "Greece": "Europe/Athens", "Egypt": "Africa/Cairo", "Kenya": "Africa/Nairobi",
    "Thailand": "Asia/Bangkok", "South Korea": "Asia/Seoul", "China": "Asia/Shanghai", "England": "Europe/London",
}  # fmt: skip

_CLOCK = {
    "It is {time}.": (
        "[What time is it|What's the time|What is the time|whats the time|Tell me the time|What time do we have|"
        "Give me the time|Do you know what time it is|Can you tell me the time|Could you tell me what time it is|"
        "Do you have the time|Got the time|How late is it|What hour is it|Please tell me the time|The time|Time|"
        "I need the time|What's the current time|What is the current time|Show me the current time|Check the time|"
        "What does the clock say|Look at the clock][ now| right now| please| at the moment|][?|]"
    ),
    "Today is {weekday}, {date}.": (
        "[What is the date|What's the date|What date is it|What's today's date|What is today's date|Which date is it|"
        "What is the current date|What's the current date|Tell me the date|Tell me today's date|Give me today's date|"
        "What day is it|What day is today|Which day is it|What day do we have|Today's date|The date|"
        "Can you tell me the date|Do you know the date|What is today|I need today's date|Show me the date|Date]"
        "[ today| please| now|][?|]"
    ),
    "Today is {weekday}.": (
        "[What day of the week is it|What weekday is it|Which weekday is it|Which day of the week is it|"
        "What is today's weekday|What day of the week is today|Which day of the week do we have|Tell me the weekday]"
        "[ today| now| please|][?|]"
    ),
    "It is {time} on {weekday}, {date}.": (
        "[What is the date and time|What's the date and the time|What are the current date and time|"
        "Tell me the date and the time|Give me the time and date|What time and date is it|Date and time|"
        "What is the current date and time|What day and time is it|Time and date|"
        "Can you tell me the time and the date|What is the time and what is the date][ please| now|][?|]"
    ),
    "It is {year}.": "[What year is it|Which year is it|What is the current year|What's the year|Tell me the year|In what year are we][ now|][?|]",
    "It is {month}.": "[What month is it|Which month is it|What is the current month|What's the month|Which month do we have][ now|][?|]",
}
_CLOCK_WEIGHTS = (8, 6, 2, 3, 1, 1)

_ELSEWHERE = (
    "[What time is it|What's the time|What is the time|Tell me the time|What is the current time|What's the current time|"
    "Current time|Time|The time|How late is it|Can you tell me the time|What time is it now|Do you know the time|"
    "Do you know what time it is] in {c}[ now| right now| please| at the moment|][?|]"
)
_TIME_ERRORS = ("the clock cannot be read", "unknown time zone '{z}': use a name such as Europe/Paris, UTC or local")


def clock(rng: random.Random, _: str) -> Exchange:
    kind = rng.random()
    if kind < 0.07:
        return _zoned(rng)
    if kind < 0.5:
        return _elsewhere(rng)
    story = kind < 0.7
    answer = rng.choices(list(_CLOCK), stories.CLOCK_WEIGHTS if story else _CLOCK_WEIGHTS)[0]
    user = say(rng, rng.choice(stories.CLOCK[answer]) if story else _CLOCK[answer], **_moments(rng))
    user = user if story or rng.random() < 0.95 else framed(rng, user)
    now = _now(rng, rng.choice(("UTC", "CET", "CEST", "EST", "PST", "GMT", "JST", "IST", "local", "BST", "EDT")))
    call = Call("current_time", {}, json.dumps(now))
    return Exchange(casual(rng, user), _fill(answer, now), (call,))


def _moments(rng: random.Random) -> dict[str, object]:
    """What a story about the clock mentions; none of it matters."""
    return {
        "hour": rng.choice(stories.HOURS), "day": rng.choice(_WEEKDAYS), "month": rng.choice(_MONTHS),
        "nth": ordinal(str(rng.randrange(1, 32))), "y": rng.randrange(2020, 2040),
    }  # fmt: skip


def _elsewhere(rng: random.Random) -> Exchange:
    city = rng.choice(list(CITIES))
    pattern, answer = _ELSEWHERE, stories.THERE
    if rng.random() < 0.5 and city != "UTC":
        pattern, answer = rng.choice(stories.ELSEWHERE)
    return _read(rng, say(rng, pattern, c=city, **_moments(rng)), answer, CITIES[city], city)


def _zoned(rng: random.Random) -> Exchange:
    """UTC, or a zone by its name."""
    if rng.random() < 0.5:
        return _read(rng, say(rng, rng.choice(stories.UTC)), stories.THERE, "UTC", "UTC")
    zone = rng.choice(sorted(set(CITIES.values())))
    return _read(rng, say(rng, rng.choice(stories.ZONED), z=zone), stories.THERE, zone, zone)


def _read(rng: random.Random, user: str, answer: str, zone: str, place: str) -> Exchange:
    now = _now(rng, zone)
    call = Call("current_time", {"timezone": zone}, json.dumps(now))
    return Exchange(casual(rng, user), _fill(answer.replace("{city}", place), now), (call,))


def _fill(answer: str, now: dict[str, str]) -> str:
    year, month, _ = now["date"].split("-")
    return answer.format(**now, year=year, month=_MONTHS[int(month) - 1])


def _now(rng: random.Random, zone: str) -> dict[str, str]:
    """Any moment; its weekday is any too, so that it must be read and not worked out."""
    time = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    return {"date": day(rng), "time": time, "weekday": rng.choice(_WEEKDAYS), "timezone": zone}


def day(rng: random.Random) -> str:
    """A date; most are of these decades."""
    year = rng.choice(
        (rng.randrange(2020, 2036), rng.randrange(2020, 2036), rng.randrange(1950, 2051), rng.randrange(1700, 2100))
    )
    return (datetime.date(year, 1, 1) + datetime.timedelta(days=rng.randrange(365))).isoformat()


def written(rng: random.Random, iso: str) -> str:
    """A date as people write it."""
    year, month, number = iso.split("-")
    name, plain = _MONTHS[int(month) - 1], str(int(number))
    short = name[:3]
    ordinal = plain + ("th" if plain in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(plain[-1], "th"))
    forms = (
        iso, iso, iso, iso,
        f"{plain} {name} {year}", f"{name} {plain}, {year}", f"{name} {plain} {year}", f"{ordinal} {name} {year}",
        f"{name} {ordinal}, {year}", f"the {ordinal} of {name} {year}", f"{plain} {short} {year}", f"{short} {plain}, {year}",
    )  # fmt: skip
    return rng.choice(forms)


def _told(rng: random.Random, iso: str) -> str:
    """A date in a story: now and then in one more form."""
    if rng.random() < 0.88:
        return written(rng, iso)
    year, month, number = iso.split("-")
    name, plain = _MONTHS[int(month) - 1], str(int(number))
    forms = (
        f"{year}/{month}/{number}", f"{number}.{month}.{year}", f"{plain}.{int(month)}.{year}",
        f"{name} the {ordinal(plain)}, {year}", f"the {ordinal(plain)} of {name}, {year}", f"{plain} {name.lower()} {year}",
        f"{name.lower()} {plain}, {year}", f"{name[:3]} {plain} {year}", f"{plain}-{name[:3]}-{year}",
    )  # fmt: skip
    return rng.choice(forms)


_ADD = (
    ("[What date is|What is the date|Which date is|What day is|When is|What's the date|Give me the date] {n} {after} {d}[?|]", 1, "{n} after {d} is {w}, {r}."),
    ("{n} {after} {d}[?|]", 1, "{n} after {d} is {w}, {r}."),
    ("[Add|Please add|Can you add] {n} to {d}[.|?|]", 1, "{n} after {d} is {w}, {r}."),
    ("[What is|What's] {d} [plus|+] {n}[?|]", 1, "{n} after {d} is {w}, {r}."),
    ("[What date is|What is the date|Which date is|What day is|What day was|When was|What's the date] {n} before {d}[?|]", -1, "{n} before {d} is {w}, {r}."),
    ("{n} before {d}[?|]", -1, "{n} before {d} is {w}, {r}."),
    ("[Subtract|Take] {n} from {d}[.|?|]", -1, "{n} before {d} is {w}, {r}."),
    ("[What is|What's] {d} [minus|-] {n}[?|]", -1, "{n} before {d} is {w}, {r}."),
)  # fmt: skip
_FROM_NOW = (
    ("[What date is it|What is the date|What date will it be|What day will it be|What will the date be|What's the date|"
     "Which date is|Which day will it be|What day is it] [in {n}|{n} from now|{n} from today|{n} later][?|]", 1, "In {n} it will be {w}, {r}."),
    ("[When is|When will it be|What is] {n} [from now|from today][?|]", 1, "In {n} it will be {w}, {r}."),
    ("In {n}, what [date is it|day is it|will the date be][?|]", 1, "In {n} it will be {w}, {r}."),
    ("[Today|today] [plus|+] {n}[?|]", 1, "In {n} it will be {w}, {r}."),
    ("[Add {n} to today|Add {n} to today's date|{n} from now|{n} from today|{n} after today][?|.|]", 1, "In {n} it will be {w}, {r}."),
    ("[What date was it|What was the date|What day was it|Which date was|What date was|What day was|When was] {n} ago[?|]", -1, "{n} ago it was {w}, {r}."),
    ("[{n} ago|{n} before today|Today minus {n}][?|]", -1, "{n} ago it was {w}, {r}."),
)  # fmt: skip
_NEAR = (
    ("[What is tomorrow's date|What's the date tomorrow|What date is tomorrow|What day is tomorrow|Tomorrow's date|What is the date tomorrow|"
     "Which day is tomorrow|What day is it tomorrow|What date is it tomorrow][?|]", 1, "Tomorrow is {w}, {r}."),
    ("[What was yesterday's date|What date was yesterday|What day was yesterday|Yesterday's date|What was the date yesterday|"
     "Which day was yesterday|What day was it yesterday][?|]", -1, "Yesterday was {w}, {r}."),
    ("[What is the date in a week|What date is it in a week|What date is it in one week|What day is it in a week][?|]", 7, "In a week it will be {w}, {r}."),
)  # fmt: skip
_WHICH_WEEKDAY = (
    "[What day of the week is|What day of the week was|What weekday is|What weekday was|Which weekday is|Which weekday was|"
    "On what day of the week is|What day is|What day was|On which weekday does|Which day of the week is] {d}[ fall|][?|]"
)
_UNITS = ("days", "days", "days", "weeks", "weeks", "months", "years")


def add_to_date(rng: random.Random, _: str) -> Exchange:
    if rng.random() < 0.38:
        return _added_in_a_story(rng)
    kind = rng.random()
    iso = day(rng)
    result = {"date": day(rng), "weekday": rng.choice(_WEEKDAYS)}
    if kind < 0.12:
        pattern, days, answer = rng.choice(_NEAR)
        return _added(rng, say(rng, pattern), answer, {"date": "today", "days": days}, result, {})
    if kind < 0.27:
        user = say(rng, _WHICH_WEEKDAY, d=written(rng, iso))
        return _added(rng, user, "{d} is a {w}.", {"date": iso, "days": 0}, result, {"d": iso})
    pattern, sign, answer = rng.choice(_ADD if kind < 0.65 else _FROM_NOW)
    start, shown = (iso, written(rng, iso)) if "{d}" in pattern else ("today", "")
    amounts, words = _amounts(rng)
    spoken = _in_letters(rng, words) if rng.random() < 0.15 else words
    user = say(rng, pattern, n=spoken, d=shown, after=rng.choice(("after", "after", "from", "past", "later than")))
    user = framed(rng, user[0].upper() + user[1:]) if rng.random() < 0.05 else user
    called: dict[str, str | int] = {"date": start, **{unit: sign * amount for unit, amount in amounts.items()}}
    return _added(rng, user, answer, called, result, {"n": words, "d": start})


_STORIES = {
    stories.LATER: (9, 1, "{n} after {d} is {w}, {r}."), stories.EARLIER: (4, -1, "{n} before {d} is {w}, {r}."),
    stories.FROM_TODAY: (4, 1, "In {n} it will be {w}, {r}."), stories.AGO: (3, -1, "{n} ago it was {w}, {r}."),
    stories.FALLS_ON: (4, 0, "{d} is a {w}."),
}  # fmt: skip
_IDIOMS: dict[str, dict[str, int]] = {
    "half a year": {"months": 6}, "a fortnight": {"weeks": 2}, "a decade": {"years": 10}, "two decades": {"years": 20},
    "a quarter of a year": {"months": 3}, "half a century": {"years": 50}, "a century": {"years": 100},
}  # fmt: skip


def _added_in_a_story(rng: random.Random) -> Exchange:
    patterns = rng.choices(list(_STORIES), [weight for weight, *_ in _STORIES.values()])[0]
    _, sign, answer = _STORIES[patterns]
    pattern = choose(rng, rng.choice(patterns))
    iso = day(rng)
    amounts, words = _amounts(rng)
    if "{h}" in pattern:
        unit = rng.choice(_UNITS)
        amounts = {unit: count(rng)}
        words = _said(amounts)
    elif rng.random() < 0.08:
        words = rng.choice(list(_IDIOMS))
        amounts = _IDIOMS[words]
    spoken = _in_letters(rng, words) if rng.random() < 0.35 else words
    noun = (words if words.startswith("1 ") else spoken).removesuffix("s").replace(" ", "-")
    user = say(rng, pattern, d=_told(rng, iso), n=spoken, h=noun, day=rng.choice(_WEEKDAYS))
    start = iso if "{d}" in pattern else "today"
    called: dict[str, str | int] = {"date": start}
    called |= {unit: sign * amount for unit, amount in amounts.items()} if sign else {"days": 0}
    result = {"date": day(rng), "weekday": rng.choice(_WEEKDAYS)}
    return _added(rng, user[0].upper() + user[1:], answer, called, result, {"n": words, "d": start})


def _in_letters(rng: random.Random, words: str) -> str:
    """Three weeks instead of 3 weeks, a month instead of 1 month."""
    parts = words.split()
    for i, part in enumerate(parts):
        if part.isdigit() and int(part) <= (100 if rng.random() < 0.2 else 20):
            parts[i] = rng.choice(("one", "a", "a")) if part == "1" else spelled(int(part))
    return " ".join(parts)


def _amounts(rng: random.Random) -> tuple[dict[str, int], str]:
    """How much to add, and how one says it: one unit, seldom two."""
    units = [rng.choice(_UNITS)]
    if rng.random() < 0.12:
        units = rng.choice((["weeks", "days"], ["months", "days"], ["years", "months"]))
    amounts = {unit: rng.randrange(1, 13) if len(units) == 2 else count(rng) for unit in units}
    return amounts, _said(amounts)


def _said(amounts: dict[str, int]) -> str:
    return " and ".join(f"{amount} {unit[:-1] if amount == 1 else unit}" for unit, amount in amounts.items())


def _added(
    rng: random.Random,
    user: str,
    answer: str,
    arguments: dict[str, str | int],
    result: dict[str, str],
    said: dict[str, str],
) -> Exchange:
    order = ("date", "days", "weeks", "months", "years")
    ordered = {key: arguments[key] for key in order if key in arguments}
    call = Call("add_to_date", {**ordered}, json.dumps(result))
    text = answer.format(**said, w=result["weekday"], r=result["date"])
    return Exchange(casual(rng, user), text, (call,))


_BETWEEN = (
    "[How many days are there|How many days are|How many days is it|How many days lie|What is the number of days|"
    "Count the days|Give me the days|Number of days|Tell me the number of days|Days|The days] between {a} and {b}[?|]",
    "[How many days is it|How many days are there|How long is it|How many days|Count the days|Days] from {a} [to|until|till] {b}[?|]",
    "[What is the difference in days|How far apart are|How many days apart are|How long is the time] [between {a} and {b}|between {a} and {b}][?|]",
    "[How far apart are|How many days apart are] {a} and {b}[?|]",
    "How [long|many days] is it between {a} and {b}[?|]",
)
_UNTIL = (
    "[How many days until|How many days till|How many days are left until|How many days is it until|How many days are there until|"
    "How long is it until|How long until|Days until|Count the days until|How many days to|How many days are left to] {b}[?|]"
)
_SINCE = (
    "[How many days since|How many days have passed since|How many days is it since|How long is it since|Days since|"
    "How many days ago was|How long ago was|How many days ago is] {b}[?|]"
)


def days_between(rng: random.Random, _: str) -> Exchange:
    start, end = day(rng), day(rng)
    kind = rng.random()
    story = rng.random() < 0.38
    if story:
        user, start, end, lead = _days_in_a_story(rng)
    elif kind < 0.6:
        user, lead = (
            say(rng, rng.choice(_BETWEEN), a=written(rng, start), b=written(rng, end)),
            f"between {start} and {end}",
        )
    elif kind < 0.82:
        user, lead, start = say(rng, _UNTIL, b=written(rng, end)), f"until {end}", "today"
    else:
        user, lead, start, end = say(rng, _SINCE, b=written(rng, start)), f"since {start}", start, "today"
    user = framed(rng, user) if not story and rng.random() < 0.05 else user
    result = integer(rng, rng.choice((1, 2, 2, 3, 3, 4, 5)))
    result = "-" + result if rng.random() < 0.08 and result != "0" else result
    call = Call("days_between", {"start": start, "end": end}, result)
    answer = f"There {'is 1 day' if result == '1' else f'are {result} days'} {lead}."
    return Exchange(casual(rng, user), answer, (call,), result)


def _days_in_a_story(rng: random.Random) -> tuple[str, str, str, str]:
    """What is said, from when, to when, and how the answer puts that."""
    first = day(rng)
    later = datetime.date.fromisoformat(first) + datetime.timedelta(days=count(rng))
    other = later.isoformat() if rng.random() < 0.6 else day(rng)
    patterns = rng.choices((stories.BETWEEN, stories.UNTIL, stories.SINCE), (5, 3, 3))[0]
    user = say(rng, rng.choice(patterns), a=_told(rng, first), b=_told(rng, other), place=rng.choice(stories.TRIPS))
    user = user[0].upper() + user[1:]
    if patterns is stories.UNTIL:
        return user, "today", other, f"until {other}"
    if patterns is stories.SINCE:
        return user, first, "today", f"since {first}"
    return user, first, other, f"between {first} and {other}"
