"""Tools as one prompt shows them.

A tool of the catalogue comes out under any of its names, in snake_case, camelCase or with a domain before a dot, with
parameters under any of theirs, described or not: whoever wants to call it right has to read it. In training, some have
names that say nothing, and some live in a world whose words mean something else: there is no end of such tools, and
none can be learnt by heart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from recipes.nano import words
from recipes.nano.synonyms import reworded
from recipes.nano.tools import Entry, Parameter, catalogue, stem, words_of


@dataclass(frozen=True, slots=True)
class Offered:
    """An entry as one system prompt shows it: its name there, what its parameters are called, its schema.

    `about` are the stems of the words that the schema is made of, and of the values that it lists.
    """

    entry: Entry
    name: str
    renamed: dict[str, str]
    schema: dict[str, Any] = field(hash=False)
    about: frozenset[str] = frozenset()


INVENTED, TRANSLATED = 0.15, 0.3  # of the tools in training
REWORDED = 0.2  # of the descriptions in training have near words in them


def offer(
    rng: random.Random, entry: Entry, style: str, varied: bool = True, never: frozenset[str] = frozenset()
) -> Offered:
    """The entry under one of its names, its parameters under one of theirs; descriptions may be missing.

    Only a `varied` one may be invented or translated, or have a schema of unusual form, or near words in its
    description, none of the stems `never` among them: other tools' own.
    """
    kind = rng.random() if varied else 1.0
    invented = kind < INVENTED
    if INVENTED <= kind < INVENTED + TRANSLATED:
        entry = translated(rng, entry)
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
        description = rng.choice(entry.descriptions)
        if varied and rng.random() < REWORDED:
            description = reworded(rng, description, 0.0, 0.5, never=never)
        schema["description"] = description
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required or rng.random() < 0.5:
        parameters["required"] = required
    schema["parameters"] = parameters
    if varied and rng.random() < 0.2:
        _vary(rng, schema)
    return Offered(entry, name, renamed, schema, _about(schema) if varied else frozenset())


def _about(schema: dict[str, Any]) -> frozenset[str]:
    properties = schema["parameters"]["properties"]
    told = (f"{key} {each.get('description', '')} {' '.join(each.get('enum', ()))}" for key, each in properties.items())
    return words_of(f"{schema['name']} {schema.get('description', '')} {' '.join(told)}")


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


# What a pattern holds beside words: values, results, alternatives' brackets are left alone.
_KEPT = re.compile(r"(\{[^{}]*\}|%[^%\s]*%|[A-Za-z]+)")
_STEMS = frozenset(map(stem, words.GRAMMAR))


def translated(rng: random.Random, entry: Entry) -> Entry:
    """The tool in a world where some of its words, in its schema as in its requests, are other words.

    "Book a table at {restaurant}" with book_table becomes "Book a lantern at {restaurant}" with book_lantern: what is
    left to go by is which words are the same.
    """
    parameters = " ".join(f"{' '.join(p.names)} {p.description}" for p in entry.parameters)
    stems = words_of(f"{' '.join(entry.names)} {' '.join(entry.descriptions)} {parameters}")
    asked = words_of(" ".join(re.sub(r"\{[^{}]*\}", "", ask) for ask in entry.asks))
    both = sorted(each for each in stems & asked if each not in _STEMS)
    chosen = [each for each in both if rng.random() < 0.7] or both[:1]
    mapped = {each: _random_name(rng, 1) for each in chosen}

    def word(found: re.Match[str]) -> str:
        text = found[0]
        other = mapped.get(stem(text.lower())) if text[0].isalpha() and len(text) > 3 else None
        return (other.capitalize() if text[0].isupper() else other) if other else text

    def name(text: str) -> str:
        return "_".join(mapped.get(stem(part), part) if len(part) > 3 else part for part in text.split("_"))

    def told(text: str) -> str:
        return _KEPT.sub(word, text)

    renamed = tuple(
        replace(p, names=tuple(dict.fromkeys(map(name, p.names))), description=told(p.description))
        for p in entry.parameters
    )
    return Entry(
        entry.domain, tuple(map(name, entry.names)), tuple(map(told, entry.descriptions)), renamed,
        tuple(map(told, entry.asks)), tuple((result, told(answer)) for result, answer in entry.results),
        frozenset(map(stem, mapped.values())),
    )  # fmt: skip


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


def _vary(rng: random.Random, schema: dict[str, Any]) -> None:
    """As other programs write schemas: pydantic's titles, defaults, other orders, what strict modes add."""
    parameters = schema["parameters"]
    properties: dict[str, dict[str, Any]] = parameters["properties"]

    def titles() -> None:
        for name, each in properties.items():
            properties[name] = {"title": name.replace("_", " ").title(), **each}

    def defaults() -> None:
        for name, each in properties.items():
            if name not in parameters.get("required", ()):
                values = {"boolean": False, "integer": 1, "number": 1.0, "array": [], "string": ""}
                each["default"] = (each.get("enum") or [values[each["type"]]])[0]

    def strict() -> None:
        parameters["additionalProperties"] = False

    def description_first() -> None:
        for name, each in properties.items():
            properties[name] = dict(sorted(each.items()))

    def parameters_first() -> None:
        last = schema.pop("description", None)
        if last is not None:
            schema["description"] = last

    def required_first() -> None:
        if "required" in parameters:
            kept = dict(parameters)
            parameters.clear()
            parameters.update({"type": "object", "required": kept.pop("required"), **kept})

    ways: list[Callable[[], None]] = [titles, defaults, strict, description_first, parameters_first, required_first]
    for way in rng.sample(ways, rng.choice((1, 1, 2))):
        way()
