"""Extraction: a short text, fields to find in it, and one line of JSON with the keys as they were asked for."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from recipes.nano.asking import in_words
from recipes.nano.exchange import Exchange, Number
from recipes.nano.phrases import choose
from recipes.nano.tools import CATALOGUE, HELD_OUT, CatalogueInvalid
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


def extraction(rng: random.Random, values: Values, source: Catalogue) -> Exchange:
    """One to five of a form's fields under any of their keys; what the text does not say is null."""
    form = rng.choice(source.forms)
    text, given = _told(rng, values, form)
    held = [name for name in form.fields if name in given]
    missing = [name for name in form.fields if name not in given]
    wanted = rng.sample(held, rng.randint(1, min(4, len(held))))
    if missing and rng.random() < 0.3:
        wanted.insert(rng.randrange(len(wanted) + 1), rng.choice(missing))
    keys = _keys(rng, form, wanted)
    reply = {key: given.get(name) for key, name in zip(keys, wanted, strict=True)}
    ask = choose(rng, rng.choice(source.asks))
    user = ask.replace("{text}", text).replace("{fields}", _listed(rng, keys)) if "{text}" in ask else ask
    return Exchange(user, _dumped(reply))


def _told(rng: random.Random, values: Values, form: Form) -> tuple[str, dict[str, Any]]:
    text = choose(rng, rng.choice(form.texts))
    while found := _OPTIONAL.search(text):
        text = text[: found.start()] + (found[1] if rng.random() < 0.5 else "") + text[found.end() :]
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
