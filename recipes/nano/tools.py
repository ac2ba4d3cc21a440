"""Made-up tools: the catalogue of tools and of ways to ask for them, and exchanges made of it.

A tool of the catalogue comes out under any of its names, in snake_case, camelCase or with a domain before a dot, with
parameters under any of theirs, described or not: whoever wants to call it right has to read it.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from recipes.nano import words
from recipes.nano.exchange import Argument, Call, Exchange, Number
from recipes.nano.phrases import casual, casual_start, choose
from recipes.nano.values import Values

CATALOGUE = Path(__file__).parent / "catalogue"
HELD_OUT = CATALOGUE / "heldout"

_PARAMETER = re.compile(r"(\w+)(\*?): (.+?) \"(.*?)\"(?: /\s*(.*))?$")
_OPTIONAL = re.compile(r"<([^<>]*)>")
_BRACES = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
_RETURNED = re.compile(r"%(\w+)(?::([^%]*))?%")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`names` are interchangeable; `kind` is a type of values.py, or bool."""

    name: str
    names: tuple[str, ...]
    kind: str
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool of the catalogue, its ways of asking, and its (result, answer) pairs."""

    domain: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """An entry as one system prompt shows it: its name there, what its parameters are called, its schema."""

    entry: Entry
    name: str
    renamed: dict[str, str]
    schema: dict[str, Any] = field(hash=False)


class CatalogueInvalid(ValueError):
    """A line of a catalogue that cannot be used."""


@cache
def catalogue(held_out: bool = False) -> tuple[Entry, ...]:
    """All entries for training, or those that only the test may see."""
    folder = HELD_OUT if held_out else CATALOGUE
    return tuple(entry for path in sorted(folder.glob("*.tools")) for entry in parse(path.read_text(encoding="utf-8")))


def parse(text: str) -> list[Entry]:
    """The entries of a catalogue: `## domain`, then `name: Description.` and its indented lines (see catalogue/README.md)."""
    entries: list[Entry] = []
    domain = ""
    lines: list[str] = []
    for line in [*text.splitlines(), "## end"]:
        if line and not line[0].isspace():
            if lines:
                entries.append(_entry(domain, lines))
            lines = [] if line.startswith("#") else [line]
            domain = line[2:].strip() if line.startswith("##") else domain
        elif line.strip():
            lines.append(line.strip())
    return entries


def _entry(domain: str, lines: list[str]) -> Entry:
    name, _, description = lines[0].partition(": ")
    names, descriptions = [name], [description]
    parameters: list[Parameter] = []
    asks, results = [], []
    for line in lines[1:]:
        if line.startswith("> "):
            asks.append(line[2:])
        elif line.startswith("= "):
            result, _, answer = line[2:].partition(" -> ")
            results.append((result, answer))
        elif line.startswith("names:"):
            names += [each.strip() for each in line[6:].split(",") if each.strip()]
        elif line.startswith("desc:"):
            descriptions.append(line[5:].strip())
        elif found := _PARAMETER.fullmatch(line):
            first, star, kind, said, others = found.groups()
            also = [each.strip() for each in (others or "").split(",") if each.strip()]
            parameters.append(Parameter(first, tuple(dict.fromkeys([first, *also])), kind, said, bool(star)))
        else:
            raise CatalogueInvalid(f"{name}: {line!r} is no parameter, request or result")
    return Entry(
        domain.replace(" ", "_"), tuple(names), tuple(descriptions), tuple(parameters), tuple(asks), tuple(results)
    )


def words_of(text: str) -> frozenset[str]:
    """Its words without their endings, to see whether two texts speak of the same thing."""
    found = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower().replace("_", " "))
    return frozenset(re.sub(r"(ing|ed|es|s|e)$", "", word) for word in found if len(word) > 3)


# --- as one prompt shows them


INVENTED = 0.3  # of tools are called by words that say nothing: they can only be copied


def offer(rng: random.Random, entry: Entry, style: str) -> Offered:
    """The entry under one of its names, its parameters under one of theirs; descriptions may be missing."""
    invented = rng.random() < INVENTED
    shown = _invented(rng, entry) if invented else entry
    name = styled(rng.choice((shown.names[0], *shown.names)), shown.domain, style)
    renamed: dict[str, str] = {}
    for parameter in shown.parameters:
        free = [each for each in parameter.names if _case(each, style) not in renamed.values()]
        renamed[parameter.name] = _case(rng.choice(free or [parameter.name]), style)
    described = invented or rng.random() < 0.85
    properties = {renamed[p.name]: _schema_of(p, described or not p.required) for p in entry.parameters}
    required = [renamed[p.name] for p in entry.parameters if p.required]
    schema: dict[str, Any] = {"name": name}
    if invented or rng.random() < 0.93:
        schema["description"] = rng.choice(entry.descriptions)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required or rng.random() < 0.5:
        parameters["required"] = required
    schema["parameters"] = parameters
    return Offered(entry, name, renamed, schema)


def _invented(rng: random.Random, entry: Entry) -> Entry:
    """The same tool under names of random words: its descriptions alone say what it is for."""
    kept = (entry.names[0],) if rng.random() < 0.3 else (_random_name(rng, 3),)
    parameters = tuple(replace(p, names=(_random_name(rng, 2),)) for p in entry.parameters)
    return replace(entry, domain=_random_name(rng, 1), names=kept, parameters=parameters)


def _random_name(rng: random.Random, most: int) -> str:
    while (name := "_".join(rng.sample(words.frequent(8000), rng.randrange(1, most + 1)))) in _held_out_names():
        pass
    return name


@cache
def _held_out_names() -> frozenset[str]:
    entries = catalogue(held_out=True)
    return frozenset(
        name for entry in entries for name in (*entry.names, *(each for p in entry.parameters for each in p.names))
    )


def styled(name: str, domain: str, style: str) -> str:
    """`book_room` as snake, camel (bookRoom), pascal-free dotted (hotel.book_room) or dotted camel (hotel.bookRoom)."""
    match style:
        case "dotted":
            return f"{domain}.{name}"
        case "dotted camel":
            return f"{_case(domain, 'camel')}.{_case(name, 'camel')}"
    return _case(name, style)


def _case(name: str, style: str) -> str:
    if "camel" not in style:
        return name
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_JSON_TYPES = {
    "int": "integer",
    "year": "integer",
    "percent": "integer",
    "number": "number",
    "money": "number",
    "bool": "boolean",
    "list": "array",
}


def _schema_of(parameter: Parameter, described: bool) -> dict[str, Any]:
    name, _, rest = parameter.kind.partition(" ")
    schema: dict[str, Any] = {"type": _JSON_TYPES.get(name, "string")}
    if name == "list":
        schema["items"] = {"type": _JSON_TYPES.get(rest.split()[0], "string")}
    if described:
        schema["description"] = parameter.description
    if name == "enum":
        schema["enum"] = rest.split("|")
    return schema


# --- what is said


def asked(rng: random.Random, values: Values, offered: Offered) -> tuple[str, Call, str]:
    """A request for a tool, the call that it needs with its result, and the answer."""
    entry = offered.entry
    given, text = filled(rng, values, entry, rng.choice(entry.asks))
    arguments = {offered.renamed[p.name]: given[p.name] for p in entry.parameters if p.name in given}
    shown = {name: in_words(value) for name, value in given.items()}
    result, answer = returned(rng, values, entry, shown)
    return text, Call(offered.name, arguments, result), answer


def filled(rng: random.Random, values: Values, entry: Entry, pattern: str) -> tuple[dict[str, Argument], str]:
    """Arguments and text of one way of asking; an optional part comes half the time."""
    text = choose(rng, pattern)
    while found := _OPTIONAL.search(text):
        part = rng.choice(found[1].split("|")) if rng.random() < 0.5 else ""
        text = text[: found.start()] + part + text[found.end() :]
    kinds = {p.name: p.kind for p in entry.parameters}
    given: dict[str, Argument] = {}
    for name, assigned in _BRACES.findall(text):
        if name not in kinds:
            raise CatalogueInvalid(f"{entry.names[0]}: {pattern!r} speaks of {name}, which is no parameter")
        given[name] = _assigned(assigned) if assigned else given.get(name) or values.draw(kinds[name])
    return given, _BRACES.sub(lambda found: "" if found[2] is not None else in_words(given[found[1]]), text)


def _assigned(text: str) -> Argument:
    try:
        value: Argument = json.loads(text)
    except ValueError:
        return text
    return value


def in_words(value: Argument) -> str:
    """A value as a sentence holds it: lists with commas and an "and"."""
    if isinstance(value, list):
        return ", ".join(value[:-1]) + (" and " if len(value) > 1 else "") + value[-1]
    return value.text if isinstance(value, Number) else str(value)


def returned(rng: random.Random, values: Values, entry: Entry, shown: dict[str, str]) -> tuple[str, str]:
    result, answer = rng.choice(entry.results)
    made: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        name, kind = found[1], found[2]
        if kind and name not in made:
            made[name] = in_words(values.draw(kind))
        return made.get(name, name)

    result = _RETURNED.sub(value, result)
    answer = _RETURNED.sub(value, answer)
    argument = re.compile(r"\{(\w+)\}")
    return tuple(argument.sub(lambda found: shown.get(found[1], found[1]), text) for text in (result, answer))  # type: ignore[return-value]


# --- exchanges

NONE_FITS = "None of the tools that I have here can do that."
_ERRORS = (
    "not found", "permission denied", "the service is not available", "timeout after {n} seconds", "invalid {p}", "{p} is missing", "no connection", "unknown {p}",
    "quota exceeded", "server error {n}", "not allowed", "{p} must not be empty", "try again later", "the {p} does not exist", "too many requests", "access expired",
    "internal error", "database is locked", "no results", "{w} {x} failed", "rate limit of {n} reached", "bad gateway", "the {w} is full", "login required",
)  # fmt: skip


def exchange(rng: random.Random, values: Values, offered: list[Offered]) -> Exchange:
    """A request that one of the tools serves, or two of them in one turn; some calls fail."""
    if rng.random() < 0.1:
        return _two(rng, values, offered)
    text, call, answer = asked(rng, values, rng.choice(offered))
    text = typed(rng, text, call.arguments.values())
    if rng.random() < 0.06:
        error = error_of(rng, call)
        call, answer = replace(call, result=f"error: {error}"), f"That did not work: {error}."
    return Exchange(text, answer, (call,))


def typed(rng: random.Random, text: str, given: Iterable[Argument]) -> str:
    """As people type it, values untouched: a capital, a greeting or a full stop more or less where no value stands."""
    shown = [in_words(value) for value in given]
    if any(text.startswith(value) for value in shown):
        return text
    if any(text.rstrip("?.!").endswith(value.rstrip("?.!")) for value in shown):
        return casual_start(rng, text)
    return casual(rng, text + (rng.choice((".", ".", "")) if text[-1].isalnum() else ""))


def _two(rng: random.Random, values: Values, offered: list[Offered]) -> Exchange:
    (first, one, said), (second, other, also) = (asked(rng, values, rng.choice(offered)) for _ in range(2))
    starts_with_value = any(second.startswith(in_words(value)) for value in other.arguments.values())
    second = second if starts_with_value or not second[1:2].islower() else second[0].lower() + second[1:]
    joint = rng.choice((". ", " and ", ", and ", ". Also, ", ". Then ", " and then ", "; ", ", then ", ". And "))
    joint = " " if first[-1] in "?.!" else joint
    return Exchange(first + joint + second, f"{said} {also}", (one, other))


def unserved(rng: random.Random, values: Values, offered: Iterable[Offered], entries: tuple[Entry, ...]) -> str:
    """A request for a tool that is not on offer, in words that none of those on offer uses."""
    offered = list(offered)
    domains = {each.entry.domain for each in offered}
    known = frozenset().union(
        *(words_of(f"{' '.join(each.entry.names)} {each.schema.get('description', '')}") for each in offered)
    )
    for _ in range(50):
        entry = rng.choice(entries)
        if entry.domain not in domains and not words_of(" ".join(entry.names)) & known:
            given, text = filled(rng, values, entry, rng.choice(entry.asks))
            return typed(rng, text, given.values())
    return "Sing me a song."


def error_of(rng: random.Random, call: Call) -> str:
    parameter = rng.choice(list(call.arguments) or ["request"])
    w, x = (rng.choice(words.COMMON) for _ in range(2))
    return rng.choice(_ERRORS).format(n=rng.randrange(2, 600), p=parameter, w=w, x=x)


# --- `python -m recipes.nano.tools FILE`: every pattern tried


def check(path: Path) -> list[str]:
    """What is wrong with a catalogue, in sentences."""
    rng = random.Random(0)
    values = Values(rng)
    wrong: list[str] = []
    for entry in parse(path.read_text(encoding="utf-8")):
        required = {p.name for p in entry.parameters if p.required}
        wrong += [
            f"{entry.names[0]}: unknown type {p.kind!r}"
            for p in entry.parameters
            if p.kind != "bool" and not values.knows(p.kind)
        ]
        if not entry.asks or not entry.results:
            wrong.append(f"{entry.names[0]}: no requests or no results")
        for pattern in entry.asks:
            try:
                for _ in range(8):
                    given, text = filled(rng, values, entry, pattern)
                    if missing := required - given.keys():
                        wrong.append(f"{entry.names[0]}: {pattern!r} lacks {sorted(missing)}")
                        break
                    if set("[]{}|") & set(re.sub(r"\S*://\S*", "", text)):
                        wrong.append(f"{entry.names[0]}: {text!r} has brackets left")
                        break
            except (CatalogueInvalid, KeyError, ValueError) as error:
                wrong.append(f"{entry.names[0]}: {pattern!r}: {error!r}")
        for _ in range(6):
            try:
                asked(rng, values, offer(rng, entry, "snake"))
            except (CatalogueInvalid, KeyError, ValueError, IndexError) as error:
                wrong.append(f"{entry.names[0]}: {error!r}")
                break
    return wrong


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join(check(Path(name))) or "ok")
