"""Requests for made-up tools, the calls that they need, and what is said of the results."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

from recipes.nano import words
from recipes.nano.arithmetic import spelled
from recipes.nano.exchange import Argument, Call, Exchange, Number
from recipes.nano.offering import Offered
from recipes.nano.phrases import casual, casual_start, choose, say
from recipes.nano.synonyms import reworded
from recipes.nano.talk import outside
from recipes.nano.tools import CatalogueInvalid, Entry, Parameter, words_of
from recipes.nano.values import Values

_OPTIONAL = re.compile(r"<([^<>]*)>")
_BRACES = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")
_RETURNED = re.compile(r"%(\w+)(?::([^%]*))?%")

GENERAL = 0.35  # of what no tool serves
REWORDED = 0.9  # of requests may have near words in them; about half of those find some
PLAIN, BARE = 0.1, 0.3  # of requests name parameters one by one; of results are fields that nobody could foresee


def asked(
    rng: random.Random, values: Values, offered: Offered, varied: bool = True, others: Iterable[Offered] = ()
) -> tuple[str, Call, str]:
    """A request for a tool, the call that it needs with its result, and the answer.

    Only a `varied` one may be in words made of the schema's own or near to them, with a result of any form, or have
    numbers in words. No near word is one of the names of the `others` on offer.
    """
    entry = offered.entry
    if varied and rng.random() < PLAIN:
        given, text = _plainly(rng, values, offered)
    else:
        near = _near_words(rng, entry, offered.about, _named(offered, others)) if varied else None
        given, text = filled(rng, values, entry, rng.choice(entry.asks), 0.12 if varied else 0.0, near)
    arguments = {offered.renamed[p.name]: given[p.name] for p in entry.parameters if p.name in given}
    shown = {name: in_words(value) for name, value in given.items()}
    bare = varied and rng.random() < BARE
    result, answer = _bare(rng, values) if bare else returned(rng, values, entry, shown)
    return text, Call(offered.name, arguments, result), answer


def filled(
    rng: random.Random,
    values: Values,
    entry: Entry,
    pattern: str,
    in_letters: float = 0.0,
    near: Callable[[str], str] | None = None,
) -> tuple[dict[str, Argument], str]:
    """Arguments and text of one way of asking; an optional part comes half the time, small numbers `in_letters`.

    `near` puts other words into the pattern before its slots are filled.
    """
    text = choose(rng, pattern)
    while found := _OPTIONAL.search(text):
        part = rng.choice(found[1].split("|")) if rng.random() < 0.5 else ""
        text = text[: found.start()] + part + text[found.end() :]
    if near:
        text = near(text)
    kinds = {p.name: p.kind for p in entry.parameters}
    given: dict[str, Argument] = {}
    for name, assigned in _BRACES.findall(text):
        if name not in kinds:
            raise CatalogueInvalid(f"{entry.names[0]}: {pattern!r} speaks of {name}, which is no parameter")
        given[name] = _assigned(assigned) if assigned else given.get(name) or values.draw(kinds[name])

    def said(found: re.Match[str]) -> str:
        if found[2] is not None:
            return ""
        shown = in_words(given[found[1]])
        small = isinstance(given[found[1]], Number) and shown.isdigit() and int(shown) < 21
        return spelled(int(shown)) if small and rng.random() < in_letters else shown

    return given, _BRACES.sub(said, text)


def _near_words(
    rng: random.Random, entry: Entry, about: frozenset[str], never: frozenset[str]
) -> Callable[[str], str] | None:
    """What puts near words into a request, above all for words of the schema; not for those of values that it means."""
    if rng.random() >= REWORDED:
        return None

    def near(text: str) -> str:
        meant = words_of(" ".join(value for _, value in _BRACES.findall(text)))
        return reworded(rng, text, 0.95, 0.4, about, never | meant | _listed_values(entry), entry.foreign)

    return near


def _listed_values(entry: Entry) -> frozenset[str]:
    listed = (p.kind.partition(" ")[2] for p in entry.parameters if p.kind.startswith(("enum", "oneof", "list")))
    return words_of(" ".join(listed))


def _named(served: Offered, offered: Iterable[Offered]) -> frozenset[str]:
    """Words of the other tools' names, and of those built in, which may be on offer too."""
    others = (words_of(each.name) for each in offered if each is not served)
    return _BUILT_IN.union(*others) - served.about


_BUILT_IN = words_of("calculate current_time add_to_date days_between convert_units text_statistics")

_PLAIN_STARTS = (
    "{tool}: {list}", "{tool} with {list}", "{tool}, {list}", "[Please|Can you] {tool} with {list}", "use {name} with {list}", "Call {name} with {list}",
    "{description} {List}", "{description} Use {list}", "{List}: {tool}", "I want to {tool}. {List}.", "{tool} ({list})", "Run {name}. {List}.",
)  # fmt: skip
_PLAIN_ITEMS = ("{p} {v}", "{p}: {v}", "{p} = {v}", "{v} as {p}", "{p} is {v}", "{v} for {p}", 'the {p} "{v}"')


def _plainly(rng: random.Random, values: Values, offered: Offered) -> tuple[dict[str, Argument], str]:
    """In the words of the schema, each argument beside its parameter's name or description, in any order."""
    given: dict[str, Argument] = {}
    items = []
    item = rng.choice(_PLAIN_ITEMS)
    for parameter in rng.sample(offered.entry.parameters, len(offered.entry.parameters)):
        if parameter.required or rng.random() < 0.4:
            value: Argument = rng.random() < 0.5 if parameter.kind == "bool" else values.draw(parameter.kind)
            given[parameter.name] = value
            items.append(item.format(p=_called(rng, parameter, offered), v=in_words(value)))
    description = offered.schema.get("description", "")
    listed = rng.choice((", ", " and ", "; ")).join(items)
    starts = [each for each in _PLAIN_STARTS if "description" not in each or description]
    ask = choose(rng, rng.choice(starts))
    tool = _spaced(offered.name.rpartition(".")[2])
    if not items:
        return given, rng.choice((tool, f"use {offered.name}", f"please {tool}", description or tool))
    text = ask.format(
        tool=tool,
        name=offered.name,
        list=listed,
        List=listed if item.startswith("{v}") else listed[0].upper() + listed[1:],
        description=description,
    )
    return given, text


def _called(rng: random.Random, parameter: Parameter, offered: Offered) -> str:
    if rng.random() < 0.3 and len(parameter.description) < 40:
        return parameter.description[0].lower() + parameter.description[1:].rstrip(".")
    name = offered.renamed[parameter.name]
    return name if rng.random() < 0.25 else _spaced(name)


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()


def _assigned(text: str) -> Argument:
    try:
        value: Argument = json.loads(text)
    except ValueError:
        return text
    return value


def in_words(value: Argument) -> str:
    """A value as a sentence holds it: lists with commas and an "and"."""
    if isinstance(value, list):
        *first, last = map(in_words, value)
        return ", ".join(first) + (" and " if first else "") + last
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.text if isinstance(value, Number) else str(value)


def returned(rng: random.Random, values: Values, entry: Entry, shown: dict[str, str]) -> tuple[str, str]:
    """One of the entry's results and its answer."""
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


_KINDS = (
    "int 0 9", "int 0 99", "int 0 90000", "number 0 100", "money", "percent", "id", "code", "date", "time", "person", "city", "company", "word", "text", "title",
    "email", "url", "filename", "oneof ok|done|sent|saved|created|updated|deleted|scheduled|pending|success|active|closed|open|confirmed|queued|failed",
)  # fmt: skip


def _bare(rng: random.Random, values: Values) -> tuple[str, str]:
    """Fields of any name, of which the answer tells one after another; a list or more; or a text, which it repeats."""
    if rng.random() < 0.35:
        return rng.choice((_listed, _listed, _nested))(rng, values)
    if rng.random() < 0.25:
        value = in_words(values.draw(rng.choice(_KINDS)))
        text = rng.choice(
            (
                value,
                value,
                f"{rng.choice(words.frequent(3000))}: {value}",
                f"{rng.choice(words.frequent(3000))} {value}",
            )
        )
        return text, f"The tool says: {text}."
    names = [
        "_".join(rng.sample(words.frequent(3000), rng.choice((1, 1, 2)))) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))
    ]
    fields = {name: values.draw(rng.choice(_KINDS)) for name in names}
    parts = (
        f"{json.dumps(name)}: {value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    )
    told = [f"{_spaced(name)}: {in_words(value)}" for name, value in fields.items()]
    return "{" + ", ".join(parts) + "}", f"The tool says: {', '.join(told)}."


_Drawn = Argument | dict[str, "_Drawn"] | list["_Drawn"]


def _listed(rng: random.Random, values: Values) -> tuple[str, str]:
    """Two to four strings, numbers or small objects, counted and told; as they are, or under a name."""
    count = rng.choice((2, 2, 3, 3, 4))
    items: list[_Drawn]
    if rng.random() < 0.55:
        kind = rng.choice(_KINDS)
        items = [_drawn(rng, values, kind) for _ in range(count)]
    else:
        fields = {name: rng.choice(_KINDS) for name in _names(rng, rng.choice((1, 2, 2, 3)))}
        items = [{name: _drawn(rng, values, kind) for name, kind in fields.items()} for _ in range(count)]
    if rng.random() < 0.3:
        (name,) = _names(rng, 1)
        return _dumped({name: items}), f"The tool says: {_spaced(name)}: {_told(items)}."
    return _dumped(items), f"There are {count}: {_told(items)}."


def _nested(rng: random.Random, values: Values) -> tuple[str, str]:
    """Two to six fields, some of which stand in an object within the object."""
    names = _names(rng, rng.randint(3, 7))
    outer, inner = names[0], set(rng.sample(names[1:], rng.randint(1, min(4, len(names) - 1))))
    result: dict[str, _Drawn] = {}
    nested: dict[str, _Drawn] = {}
    at = rng.randrange(len(names))
    for place, name in enumerate(names[1:]):
        if place == at:
            result[outer] = nested
        (nested if name in inner else result)[name] = _drawn(rng, values, rng.choice(_KINDS))
    result[outer] = nested
    return _dumped(result), f"The tool says: {_told(result)}."


def _names(rng: random.Random, count: int) -> list[str]:
    """Different names of one or two words, in one of two spellings."""
    camel = rng.random() < 0.25
    parts = iter(rng.sample(words.frequent(3000), 2 * count))
    made = [[first, second][: rng.choice((1, 1, 2))] for first, second in zip(parts, parts, strict=True)]
    return [one[0] + "".join(map(str.capitalize, one[1:])) if camel else "_".join(one) for one in made]


def _drawn(rng: random.Random, values: Values, kind: str) -> Argument:
    return rng.random() < 0.5 if rng.random() < 0.04 else values.draw(kind)


def _told(value: _Drawn) -> str:
    """Every value of a result, the objects of a list apart by semicolons, an object's fields under its own name."""
    if isinstance(value, dict):
        return ", ".join(f"{_spaced(name)}: {_told(each)}" for name, each in _flat(value))
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "; ".join(map(_told, value))
    return in_words(value)  # type: ignore[arg-type]


def _flat(fields: dict[str, _Drawn], within: str = "") -> list[tuple[str, _Drawn]]:
    """`{"a": {"b": 1}}` as `a b: 1`."""
    found: list[tuple[str, _Drawn]] = []
    for name, value in fields.items():
        found += _flat(value, f"{within}{name} ") if isinstance(value, dict) else [(within + name, value)]
    return found


def _dumped(value: _Drawn) -> str:
    """`json.dumps`, numbers as they were drawn."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {_dumped(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_dumped, value))}]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


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
    text, call, answer = asked(rng, values, rng.choice(offered), others=offered)
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
    (first, one, said), (second, other, also) = (
        asked(rng, values, rng.choice(offered), others=offered) for _ in range(2)
    )
    starts_with_value = any(second.startswith(in_words(value)) for value in other.arguments.values())
    second = second if starts_with_value or not second[1:2].islower() else second[0].lower() + second[1:]
    joint = rng.choice((". ", " and ", ", and ", ". Also, ", ". Then ", " and then ", "; ", ", then ", ". And "))
    joint = " " if first[-1] in "?.!" else joint
    return Exchange(first + joint + second, f"{said} {also}", (one, other))


def unserved(
    rng: random.Random, values: Values, offered: Iterable[Offered], entries: tuple[Entry, ...], near: float = 0.0
) -> str:
    """A request for a tool that is not on offer, in words that none of those on offer uses.

    `near` of them are for another tool of a domain that is on offer: to remove what can only be listed. As many again
    and more ask what no tool of the catalogue knows: who wrote a book, or for a poem. Without `near`, as for a test, the
    catalogue's own words are used; with it, near ones as often as in requests that are served.
    """
    offered = list(offered)
    domains = {each.entry.domain for each in offered}
    told = (f"{' '.join(each.entry.names)} {each.schema.get('description', '')}" for each in offered)
    known = frozenset[str]().union(*map(words_of, told))

    def unlike(entry: Entry) -> Callable[[str], str] | None:
        return _near_words(rng, entry, _told_of(entry), known) if near else None

    if rng.random() < near:
        entry = rng.choice([entry for entry in entries if entry.domain in domains] or entries)
        firsts = {each.entry.asks for each in offered}
        verbs = {name.split("_")[0] for each in offered for name in each.entry.names}
        if entry.asks not in firsts and not verbs & {name.split("_")[0] for name in entry.names}:
            given, text = filled(rng, values, entry, rng.choice(entry.asks), near=unlike(entry))
            return typed(rng, text, given.values())
    if near and rng.random() < GENERAL:
        asks = " ".join(re.sub(r"\{[^{}]*\}", "", ask) for each in offered for ask in each.entry.asks)
        for _ in range(10):
            text = outside(rng, "").user
            if not words_of(text) & (known | words_of(asks)):
                return text
    for _ in range(50):
        entry = rng.choice(entries)
        if entry.domain not in domains and not words_of(" ".join(entry.names)) & known:
            given, text = filled(rng, values, entry, rng.choice(entry.asks), near=unlike(entry))
            return typed(rng, text, given.values())
    return "Sing me a song."


@cache
def _told_of(entry: Entry) -> frozenset[str]:
    return words_of(
        f"{' '.join(entry.names)} {entry.descriptions[0]} {' '.join(p.description for p in entry.parameters)}"
    )


def error_of(rng: random.Random, call: Call) -> str:
    parameter = rng.choice(list(call.arguments) or ["request"])
    w, x = (rng.choice(words.COMMON) for _ in range(2))
    return say(rng, rng.choice(_ERRORS), n=rng.randrange(2, 600), p=parameter, w=w, x=x)
