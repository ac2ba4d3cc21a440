"""Whole dialogues: a prefix (system text and tools on offer) and what is said after it.

Many dialogues share one prefix, so that training reads the tools' JSON once and not once for each of them.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.tools.builtin import builtin_schemas
from recipes.nano import asking, extraction, tools, words
from recipes.nano.arithmetic import arithmetic
from recipes.nano.dates import add_to_date, clock, days_between
from recipes.nano.exchange import Call, Exchange
from recipes.nano.measures import convert_units, text_statistics
from recipes.nano.offering import Offered, offer
from recipes.nano.phrases import integer, say
from recipes.nano.talk import CANNOT, outside, small_talk
from recipes.nano.values import Values

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")

Message = dict[str, Any]
Segment = tuple[str, bool]  # a piece of text, and whether the model says it

# Each kind of exchange: how often, and the tool that it needs.
_KINDS: dict[Callable[[random.Random, str], Exchange], tuple[float, str]] = {
    arithmetic: (34, "calculate"), clock: (12, "current_time"), add_to_date: (16, "add_to_date"), days_between: (16, "days_between"),
    convert_units: (14, "convert_units"), text_statistics: (12, "text_statistics"), small_talk: (9, ""), outside: (6, ""),
}  # fmt: skip
_ERRORS = (
    "division by zero", "the result is too large", "unexpected '{w}' in the expression", "missing ')'", "unknown unit '{w}'",
    "cannot convert {w} to {x}", "'{w}' is not a date: use YYYY-MM-DD or today", "unknown time zone '{w}': use a name such as Europe/Paris, UTC or local",
    "the expression is longer than {n} characters", "the value is not a finite number", "{w} {x} {y}", "the {w} is {x}", "no {w} for {n}",
    "the temperature is below absolute zero", "{w}: {x} {n}", "the tool {w} is not {x}", "the {w} took longer than {n} seconds",
)  # fmt: skip
_SYSTEMS = (
    "You are [a helpful assistant|a helpful AI assistant|nano|an assistant|a friendly assistant|a calculator|a careful assistant|a tool user]"
    "[| trained by Liquid AI| that uses tools| who answers briefly| called nano].[| Answer [briefly|in English|politely|in one sentence].| Be concise.|"
    " Use the tools.| The user is called {name}.| Never guess.]",
    "[Answer the user's questions|Help the user|Be brief|Use tools when needed|Be polite and short|Think before you answer|Use your tools to answer]"
    "[.|, please.| and be exact.|. Today is {day}.]",
    "{w} {x} {y} {w} {n}.",
)


@dataclass(frozen=True, slots=True)
class Prefix:
    """What stands before the first user turn: `schemas` as shown, `builtin` names among them, made-up tools among them."""

    system: str
    schemas: tuple[dict[str, Any], ...]
    builtin: frozenset[str]
    made_up: tuple[Offered, ...] = ()

    def text(self) -> str:
        listed = (
            f"List of tools: <|tool_list_start|>[{', '.join(map(_json, self.schemas))}]<|tool_list_end|>"
            if self.schemas
            else ""
        )
        content = "\n".join(part for part in (self.system, listed) if part)
        return "<|startoftext|>" + (f"<|im_start|>system\n{content}<|im_end|>\n" if content else "")


def prefix(rng: random.Random) -> Prefix:
    """Built-in tools, made-up ones, both, or none; any order, sometimes wrapped as OpenAI's clients do."""
    builtin: list[dict[str, Any]] = []
    made_up: list[Offered] = []
    kind = rng.choices(("builtin", "made up", "both", "none"), (21, 44, 9, 26))[0]
    if kind == "builtin":
        builtin = _builtin(rng)
    if kind == "made up":
        made_up = some_tools(rng, rng.choices(range(1, 9), (26, 22, 17, 12, 10, 6, 4, 3))[0], tools.catalogue())
    if kind == "both":
        builtin = rng.sample(builtin_schemas(), rng.choice((1, 1, 2, 6)))
        made_up = some_tools(rng, rng.choice((1, 1, 2, 3)), tools.catalogue())
    shown = [*builtin, *(each.schema for each in made_up)]
    if kind != "builtin" and len(builtin) < 6:
        rng.shuffle(shown)
    if rng.random() < (0.04 if kind == "builtin" else 0.15):
        shown = [{"type": "function", "function": schema} for schema in shown]
    system = _filled(rng, rng.choice(_SYSTEMS)) if rng.random() < 0.3 else ""
    return Prefix(system, tuple(shown), frozenset(schema["name"] for schema in builtin), tuple(made_up))


def _builtin(rng: random.Random) -> list[dict[str, Any]]:
    """All six as Headrace shows them, half the time; else some of them, reworded now and then."""
    schemas = builtin_schemas()
    if rng.random() < 0.5:
        return schemas
    schemas = rng.sample(schemas, rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6)))
    return [_reworded(rng, schema) for schema in schemas] if rng.random() < 0.3 else schemas


def some_tools(rng: random.Random, count: int, entries: tuple[tools.Entry, ...], varied: bool = True) -> list[Offered]:
    """Different tools, often neighbours of one domain; names in one style, as one program would have them."""
    style = rng.choices(("snake", "camel", "dotted", "dotted camel"), (50, 24, 18, 8))[0]
    first = rng.choice(entries)
    near = [entry for entry in entries if entry.domain == first.domain and entry is not first]
    share = rng.choice((0.0, 0.5, 1.0))
    chosen = [first]
    while len(chosen) < count:
        entry = rng.choice(near if near and rng.random() < share else entries)
        if entry not in chosen and (entry.domain == first.domain or not _alike(entry, chosen)):
            chosen.append(entry)
            near = [one for one in near if one is not entry]
    names = [tools.words_of(" ".join(entry.names)) for entry in chosen] if varied else []
    others = [frozenset[str]().union(*names[:at], *names[at + 1 :]) for at in range(len(chosen))]
    offered = [offer(rng, entry, style, varied, never) for entry, never in zip(chosen, others, strict=True)]
    rng.shuffle(offered)
    return list({each.name: each for each in offered}.values())


def _alike(entry: tools.Entry, others: list[tools.Entry]) -> bool:
    """Tools of two domains that might both serve a request."""
    words_of = tools.words_of(" ".join(entry.names))
    return any(len(words_of & tools.words_of(" ".join(other.names))) > 1 for other in others)


def dialogue(rng: random.Random, prefix: Prefix, values: Values) -> list[Exchange]:
    """One to four exchanges, mostly for tools on offer; a later one may speak of the number before it."""
    if not prefix.schemas and rng.random() < 0.75:
        return [extraction.extraction(rng, values, extraction.catalogue())]
    exchanges: list[Exchange] = []
    number = ""
    for _ in range(rng.choices((1, 2, 3, 4), (66, 20, 9, 5))[0]):
        one = _exchange(rng, prefix, values, number)
        number = one.number
        exchanges.append(one)
    return exchanges


def _exchange(rng: random.Random, prefix: Prefix, values: Values, number: str) -> Exchange:
    made_up = list(prefix.made_up)
    if made_up and rng.random() < (0.4 if prefix.builtin else 0.5):
        return asking.exchange(rng, values, made_up)
    if (made_up or rng.random() < 0.06) and rng.random() < 0.7:
        user = asking.unserved(rng, values, made_up, tools.catalogue(), near=0.15)
        return Exchange(user, asking.NONE_FITS if made_up else CANNOT)
    if rng.random() < 0.02:
        return extraction.extraction(rng, values, extraction.catalogue())
    offered = prefix.builtin
    weights = [
        weight if not tool or tool in offered or not prefix.schemas else weight / 8 for weight, tool in _KINDS.values()
    ]
    kind = arithmetic if number and rng.random() < 0.35 else rng.choices(list(_KINDS), weights)[0]
    if kind is outside and made_up:
        return Exchange(asking.unserved(rng, values, made_up, tools.catalogue(), near=0.15), asking.NONE_FITS)
    return _told(rng, kind(rng, number), prefix)


def _told(rng: random.Random, exchange: Exchange, prefix: Prefix) -> Exchange:
    """The exchange as it goes when its tool is not on offer, or fails."""
    if not exchange.calls:
        return exchange
    name = exchange.calls[0].name
    if not prefix.schemas:
        return Exchange(
            exchange.user, "I need my tools for that, and none are offered here: without them I would only be guessing."
        )
    if name not in prefix.builtin:
        return Exchange(exchange.user, f"I would need the {name} tool for that, and it is not offered here.")
    if len(exchange.calls) == 1 and rng.random() < 0.05:
        error = _filled(rng, rng.choice(_ERRORS))
        return Exchange(
            exchange.user, f"That did not work: {error}.", (replace(exchange.calls[0], result=f"error: {error}"),)
        )
    return exchange


def segments(exchanges: list[Exchange]) -> list[Segment]:
    """The dialogue after its prefix, in LFM2-8B-A1B's dialect."""
    parts: list[Segment] = []
    for exchange in exchanges:
        parts.append((f"<|im_start|>user\n{exchange.user}<|im_end|>\n<|im_start|>assistant\n", False))
        if exchange.calls:
            parts.append((calls_text(exchange.calls) + "<|im_end|>", True))
            turns = (
                f"<|im_start|>tool\n<|tool_response_start|>{call.result}<|tool_response_end|><|im_end|>\n"
                for call in exchange.calls
            )
            parts.append(("\n" + "".join(turns) + "<|im_start|>assistant\n", False))
        parts.append((exchange.answer + "<|im_end|>", True))
        parts.append(("\n", False))
    return parts


def messages(exchanges: list[Exchange], system: str = "") -> list[Message]:
    """The same dialogue as a chat template takes it."""
    turns: list[Message] = [{"role": "system", "content": system}] if system else []
    for exchange in exchanges:
        turns.append({"role": "user", "content": exchange.user})
        if exchange.calls:
            turns.append({"role": "assistant", "content": calls_text(exchange.calls)})
            turns += [{"role": "tool", "content": call.result} for call in exchange.calls]
        turns.append({"role": "assistant", "content": exchange.answer})
    return turns


def calls_text(calls: tuple[Call, ...]) -> str:
    return f"<|tool_call_start|>[{', '.join(call.text() for call in calls)}]<|tool_call_end|>"


def _filled(rng: random.Random, pattern: str) -> str:
    w, x, y = (rng.choice(words.COMMON) for _ in range(3))
    return say(
        rng,
        pattern,
        w=w,
        x=x,
        y=y,
        n=integer(rng),
        name=rng.choice(words.NAMES),
        day=f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
    )


def _reworded(rng: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    """Other descriptions, or none: the names decide."""

    def reworded(part: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in part.items() if key != "description"}
        if rng.random() < 0.4:
            return kept
        return {
            **kept,
            "description": " ".join(rng.choice(words.COMMON) for _ in range(rng.randrange(2, 9))).capitalize()
            + rng.choice((".", "")),
        }

    parameters = dict(schema["parameters"])
    parameters["properties"] = {key: reworded(value) for key, value in parameters["properties"].items()}
    return {**reworded({"name": schema["name"], "description": ""}), "parameters": parameters}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
