"""Extraction: a short text, fields to find in it, and one line of JSON with the keys as they were asked for."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from recipes.nano import ways
from recipes.nano.asking import in_words
from recipes.nano.exchange import Exchange, Number
from recipes.nano.phrases import choose
from recipes.nano.synonyms import reworded
from recipes.nano.tools import CATALOGUE, HELD_OUT, CatalogueInvalid, words_of
from recipes.nano.values import Values

_OPTIONAL = re.compile(r"<([^<>]*)>")
_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Form:
    """Texts of one kind: their fields (type and interchangeable keys) and the patterns that tell them."""

    fields: dict[str, tuple[str, tuple[str, ...]]]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    forms: tuple[Form, ...]
    asks: tuple[str, ...]


@cache
def catalogue(held_out: bool = False) -> Catalogue:
    """The forms and asks of every `*.texts` of the folder."""
    folder = HELD_OUT if held_out else CATALOGUE
    parts = [parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.texts"))]
    return Catalogue(
        tuple(form for part in parts for form in part.forms), tuple(ask for part in parts for ask in part.asks)
    )


def parse(text: str) -> Catalogue:
    """`entry:`, then `field: type / keys` and `> text` lines; the section `## asking` holds the ways to ask."""
    forms: list[Form] = []
    asks: list[str] = []
    asking = False
    for line in text.splitlines():
        if line.startswith("## "):
            asking = line[3:].strip() == "asking"
        elif line and not line[0].isspace() and line.endswith(":"):
            forms.append(Form({}, ()))
        elif line.strip().startswith("> "):
            said = line.strip()[2:].replace("\\n", "\n")
            if asking:
                asks.append(said)
            else:
                forms[-1] = Form(forms[-1].fields, (*forms[-1].texts, said))
        elif line.strip():
            key, _, rest = line.strip().partition(": ")
            kind, _, others = rest.partition(" / ")
            keys = [each.strip() for each in others.split(",") if each.strip()]
            forms[-1].fields[key] = (kind.strip(), tuple(dict.fromkeys([key, *keys])))
    return Catalogue(tuple(forms), tuple(asks))


VARIED, MADE_UP = 0.65, 0.2  # of exchanges are asked for in ways.py's words; have a text of made-up fields
REWORDED, NEAR = 0.8, 0.6  # of texts in training may have near words; of their words that a key is made of, those do


def extraction(rng: random.Random, values: Values, source: Catalogue, varied: bool = True) -> Exchange:
    """One to six fields of a text under the keys that were asked for; what the text does not say is null.

    Only a `varied` one may be asked for in other words than the catalogue's, be about made-up fields, or tell a field in
    words near to its key's.
    """
    made_up = varied and rng.random() < MADE_UP
    text, fields, reply = _made_up(rng, values) if made_up else _catalogued(rng, values, source, varied)
    if varied and rng.random() < VARIED:
        return Exchange(ways.asked(rng, text, fields), _dumped(reply))
    ask = choose(rng, rng.choice(source.asks))
    user = ask.replace("{text}", text).replace("{fields}", _listed(rng, list(fields))) if "{text}" in ask else ask
    return Exchange(user, _dumped(reply))


_Made = tuple[str, dict[str, str], dict[str, Any]]  # a text, the keys asked for with their JSON types, and the reply


def _catalogued(rng: random.Random, values: Values, source: Catalogue, varied: bool) -> _Made:
    """One to five of a form's fields under any of their keys."""
    form = rng.choice(source.forms)
    text, given = _told(rng, values, form, varied and rng.random() < REWORDED)
    held = [name for name in form.fields if name in given]
    missing = [name for name in form.fields if name not in given]
    wanted = rng.sample(held, rng.randint(1, min(4, len(held))))
    if missing and rng.random() < 0.3:
        wanted.insert(rng.randrange(len(wanted) + 1), rng.choice(missing))
    named = list(zip(_keys(rng, form, wanted), wanted, strict=True))
    fields = {key: json_type(form.fields[name][0]) for key, name in named}
    return text, fields, {key: given.get(name) for key, name in named}


def json_type(kind: str) -> str:
    """What a value of a catalogue's type is in JSON."""
    name = kind.split()[0]
    types = {"int": "integer", "year": "integer", "percent": "integer", "number": "number", "money": "number"}
    return types.get(name, "array" if name == "list" else "string")


def _told(rng: random.Random, values: Values, form: Form, near: bool) -> tuple[str, dict[str, Any]]:
    """A text of the form and its values; `near` words for some of those that the form's keys are made of."""
    text = choose(rng, rng.choice(form.texts))
    while found := _OPTIONAL.search(text):
        text = text[: found.start()] + (found[1] if rng.random() < 0.5 else "") + text[found.end() :]
    if near:
        text = reworded(
            rng, text, NEAR, about=words_of(" ".join(key for _, keys in form.fields.values() for key in keys))
        )
    given: dict[str, Any] = {}
    for name in _NAME.findall(text):
        if name not in form.fields:
            raise CatalogueInvalid(f"{text!r} speaks of {name}, which is no field")
        given[name] = given.get(name) or values.draw(form.fields[name][0])
    return _NAME.sub(lambda found: in_words(given[found[1]]), text), given


def _keys(rng: random.Random, form: Form, wanted: list[str]) -> list[str]:
    """A key for each field: as the catalogue has it, or with another spelling, as users write them."""
    keys: list[str] = []
    style = rng.choices(("as it is", "spaces", "camel", "Title"), (70, 10, 12, 8))[0]
    for name in wanted:
        free = [key for key in form.fields[name][1] if key not in keys]
        key = rng.choice(free or [name])
        first, *rest = key.split("_")
        keys.append(
            {
                "spaces": key.replace("_", " "),
                "camel": first + "".join(part.capitalize() for part in rest),
                "Title": " ".join(part.capitalize() for part in (first, *rest)),
            }.get(style, key)
        )
    return keys


def _listed(rng: random.Random, keys: list[str]) -> str:
    quoted = [f'"{key}"' for key in keys]
    last = f"{', '.join(keys[:-1])} and {keys[-1]}" if len(keys) > 1 else keys[0]
    forms = [
        ", ".join(keys),
        ", ".join(keys),
        ", ".join(keys),
        last,
        last,
        ", ".join(quoted),
        " / ".join(keys),
        "[" + ", ".join(keys) + "]",
        ",".join(keys),
    ]
    if len(keys) > 1:
        forms.append(f"{', '.join(quoted[:-1])} and {quoted[-1]}")
    return rng.choice(forms)


def _dumped(reply: dict[str, Any]) -> str:
    """`json.dumps`, numbers as the text wrote them."""
    return "{" + ", ".join(f"{json.dumps(key)}: {_value(value)}" for key, value in reply.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value.text if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


# --- texts of made-up fields: only the words beside a value tell which it is

_KINDS = (
    "int 0 9", "int 0 99", "int -40 90", "int 100 90000", "number 0 100", "money", "percent", "year", "id", "code", "date", "longdate", "time", "person", "first_name", "city", "country",
    "company", "word", "email", "phone", "url", "filename", "path", "username", "street", "product", "food", "job", "topic", "color", "weekday", "month", "animal", "language", "artist",
)  # fmt: skip
_LOOSE = ("text", "title", "sentence")  # which end nobody knows where, but for a quote or the end of a line
_CLAUSES = (
    "the {k} is {v}", "the {k} is {v}", "{k} is {v}", "{v} as {k}", "with a {k} of {v}", "{k}: {v}", "its {k} was set to {v}", "for {k} we have {v}", "{k} = {v}", "they put {v} under {k}", "under {k} it says {v}",
    "{v} is the {k}", "{v} ({k})", "{k} ({v})", "{v} for the {k}", "{v} counts as the {k}", "somebody entered {v} as the {k}", "we noted {v} for {k}", "{k} turned out to be {v}", "the {k} changed to {v}",
    "where {k} stands, you read {v}", "it has {v} as its {k}", "our {k} remains {v}", "{v} was given as {k}", "{k} - {v}", "the {k} will be {v}", "as for the {k}, that is {v}", "take {v} as the {k}", "{v} goes into {k}", "the {k} of it is {v}",
)  # fmt: skip
_LINES = ("{K}: {v}",) * 4 + ("{k}: {v}", "{k}: {v}", "- {k}: {v}", "* {K} - {v}", "{k} = {v}", "{k}={v}", "{K}\t{v}", "\1{k}\2 {v}", "{k} .... {v}", "{k} -> {v}", "| {k} | {v} |", "<{s}>{v}</{s}>", "{K}\n  {v}", "{v} ({k})", "**{K}**: {v}", "{U}: {v}", "{v} <- {k}", "{s}: {v}", ":{s} {v}", '"{s}": "{v}",', "{K} / {v}")  # fmt: skip
_FILLERS = (
    "Nothing else [changed|was said] about the {a}.", "The {a} and the {b} [stay|are] as they were.", "We talked about {a} for a while.", "[More|The rest] will follow with the {a} {b}.", "Nobody asked about the {a}.", "Please keep the {a} out of this.",
    "[That is all|So much] for the {a} now.", "This is [a|another] {a} {b}.", "The {a} was fine.", "See the {a} for more.",
)  # fmt: skip


def _made_up(rng: random.Random, values: Values) -> _Made:
    """Two to six fields with any words for keys, told in any order among others; some are asked for and not told.

    Some are told in words near to the key's.
    """
    count = rng.randint(2, 8)
    style = rng.choice(("snake", "snake", "spaced", "spaced", "camel", "Title", "kebab", "UPPER", "Pascal"))
    keys_of = _key_words(rng, count + 1)
    prose = rng.random() < 0.5
    kinds = [rng.choice(_KINDS if prose or rng.random() < 0.85 else _LOOSE) for _ in keys_of]
    drawn = [_no_figure(values, kind) for kind in kinds]
    told = {" ".join(each): in_words(value) for each, value in list(zip(keys_of, drawn, strict=True))[:count]}
    told = _in_near_words(rng, told, keys_of) if rng.random() < REWORDED else told
    text = _prose(rng, told) if prose else rng.choice((_lines, _lines, _log, _table))(rng, told)
    wanted = rng.sample(range(count), rng.randint(2, min(6, count)))
    if rng.random() < 0.25:
        wanted[rng.randrange(len(wanted))] = count
    keys = {at: _styled(keys_of[at], style) for at in wanted}
    fields = {key: json_type(kinds[at]) for at, key in keys.items()}
    return text, fields, {key: drawn[at] if at < count else None for at, key in keys.items()}


def _in_near_words(rng: random.Random, told: dict[str, str], keys: list[tuple[str, ...]]) -> dict[str, str]:
    """No near word is one of any key, so that it still says which one is meant."""
    stems = words_of(" ".join(map(" ".join, keys)))
    made = {reworded(rng, key, NEAR, about=stems, foreign=stems): value for key, value in told.items()}
    return made if len(made) == len(told) else told


def _key_words(rng: random.Random, count: int) -> list[tuple[str, ...]]:
    """Different words, one or two to a key; in some texts all keys share a word, so that the other one decides."""
    shared = rng.choice(ways.content_words(5000)) if rng.random() < 0.15 else ""
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        one = tuple(rng.sample(ways.content_words(5000), rng.choice((1, 1, 2))))
        one = (one[0], shared) if shared and one[0] != shared else one
        if not {"_".join(one), *one} & _tested():
            found[one] = None
    return list(found)


@cache
def _tested() -> frozenset[str]:
    """The keys that the held-out catalogue asks for: none of them is made up here."""
    fields = (field for form in catalogue(True).forms for field in form.fields.values())
    return frozenset(key.lower() for _, keys in fields for key in keys)


def _styled(parts: tuple[str, ...], style: str) -> str:
    capitals = [part.capitalize() for part in parts]
    return {
        "spaced": " ".join(parts),
        "camel": parts[0] + "".join(capitals[1:]),
        "Title": " ".join(capitals),
        "kebab": "-".join(parts),
        "UPPER": "_".join(parts).upper(),
        "Pascal": "".join(capitals),
    }.get(style, "_".join(parts))


def _no_figure(values: Values, kind: str) -> Any:
    """A value of bare digits only where its type is a number: nobody could tell it from an id."""
    while isinstance(value := values.draw(kind), str) and value.replace(".", "").isdigit():
        pass
    return value


def _prose(rng: random.Random, told: dict[str, str]) -> str:
    """Clauses of one pattern or of several, in sentences or in one long one."""
    some = rng.sample(_CLAUSES, rng.choice((1, 1, 2, 3, 8)))
    joint = rng.choice((". ", ". ", ", ", "; ", ", and ", " / ", " - ", "\n"))
    made: list[str] = []
    for key, value in told.items():
        quote = rng.choice(("", "", "", '"')) if " " in value else ""
        clause = rng.choice(some).replace("a {k}", "an {k}" if key[0] in "aeiou" else "a {k}").replace("{k}", key)
        clause = clause.replace("{v}", f"{quote}{value}{quote}")
        starts = (not made or joint == ". ") and not clause.startswith((value, '"')) and rng.random() < 0.9
        made.append(clause[0].upper() + clause[1:] if starts else clause)
    if joint in (". ", "\n") and rng.random() < 0.5:
        made.insert(rng.randrange(len(made) + 1), _filler(rng, told).rstrip("."))
    return joint.join(made) + rng.choice((".", ".", ""))


def _filler(rng: random.Random, told: dict[str, str]) -> str:
    a, b = rng.sample([word for word in ways.content_words(3000) if word not in " ".join(told).split()], 2)
    return choose(rng, rng.choice(_FILLERS)).replace("{a}", a).replace("{b}", b)


def _lines(rng: random.Random, told: dict[str, str]) -> str:
    pattern = rng.choice(_LINES)
    made = []
    for key, value in told.items():
        line = pattern.replace("{K}", key.capitalize()).replace("{U}", key.upper()).replace("{k}", key)
        made.append(
            line.replace("{s}", key.replace(" ", "_")).replace("\1", "[").replace("\2", "]").replace("{v}", value)
        )
    if rng.random() < 0.25 and "|" not in pattern:
        made.insert(rng.choice((0, len(made))), _filler(rng, told))
    return "\n".join(made)


def _log(rng: random.Random, told: dict[str, str]) -> str:
    """`key=value` pairs on one line."""
    mark, joint = rng.choice(("=", "=", ":", ": ", " = ")), rng.choice((" ", " ", ", ", "; ", " | ", " & "))
    pairs = []
    for key, value in told.items():
        name = key.replace(" ", rng.choice(("_", "_", "-", ".")))
        pairs.append(f'{name}{mark}"{value}"' if " " in value or "," in value else f"{name}{mark}{value}")
    return rng.choice(("", "", "", "INFO ", "[debug] ", "> ", "event ")) + joint.join(pairs)


def _table(rng: random.Random, told: dict[str, str]) -> str:
    """A header and a row: CSV, or a table of Markdown."""
    style = rng.choice(("snake", "spaced", "spaced", "Title", "UPPER"))
    head = [_styled(tuple(key.split()), style) for key in told]
    if rng.random() < 0.4:
        rows = (head, ["---"] * len(head), list(told.values()))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    joint = rng.choice((",", ",", ";", "\t", ", ", " | "))
    row = [f'"{value}"' if joint.strip() and joint.strip() in value else value for value in told.values()]
    return joint.join(head) + "\n" + joint.join(row)
