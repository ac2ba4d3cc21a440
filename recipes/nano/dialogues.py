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
from recipes.nano import words
from recipes.nano.arithmetic import arithmetic
from recipes.nano.dates import add_to_date, clock, days_between
from recipes.nano.exchange import Call, Exchange
from recipes.nano.measures import convert_units, text_statistics
from recipes.nano.phrases import integer, say
from recipes.nano.talk import outside, small_talk

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text(encoding="utf-8")

Message = dict[str, Any]
Segment = tuple[str, bool]  # a piece of text, and whether the model says it

# Each kind of exchange: how often, and the tool that it needs.
_KINDS: dict[Callable[[random.Random, str], Exchange], tuple[float, str]] = {
    arithmetic: (34, "calculate"), clock: (12, "current_time"), add_to_date: (8, "add_to_date"), days_between: (6, "days_between"),
    convert_units: (12, "convert_units"), text_statistics: (16, "text_statistics"), small_talk: (9, ""), outside: (6, ""),
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
    """What stands before the first user turn. `tools` are schemas; `offered` their names."""

    system: str
    tools: tuple[dict[str, Any], ...]
    offered: frozenset[str]

    def text(self) -> str:
        listed = (
            f"List of tools: <|tool_list_start|>[{', '.join(map(_json, self.tools))}]<|tool_list_end|>"
            if self.tools
            else ""
        )
        content = "\n".join(part for part in (self.system, listed) if part)
        return "<|startoftext|>" + (f"<|im_start|>system\n{content}<|im_end|>\n" if content else "")


def prefix(rng: random.Random) -> Prefix:
    """All six tools as Headrace shows them, half the time; else some of them in any order, reworded, or none."""
    schemas = builtin_schemas()
    kind = rng.random()
    if kind > 0.92:
        schemas = []
    elif kind > 0.45:
        schemas = rng.sample(schemas, rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, 6)))
        if rng.random() < 0.3:
            schemas = [_reworded(rng, schema) for schema in schemas]
    shown = [{"type": "function", "function": schema} for schema in schemas] if rng.random() < 0.04 else schemas
    system = _filled(rng, rng.choice(_SYSTEMS)) if rng.random() < 0.3 else ""
    return Prefix(system, tuple(shown), frozenset(schema["name"] for schema in schemas))


def dialogue(rng: random.Random, offered: frozenset[str]) -> list[Exchange]:
    """One to four exchanges, mostly for tools on offer; a later one may speak of the number before it."""
    exchanges: list[Exchange] = []
    number = ""
    weights = [weight if not tool or tool in offered or not offered else weight / 8 for weight, tool in _KINDS.values()]
    for _ in range(rng.choices((1, 2, 3, 4), (60, 20, 12, 8))[0]):
        kind = arithmetic if number and rng.random() < 0.35 else rng.choices(list(_KINDS), weights)[0]
        exchange = _told(rng, kind(rng, number), offered)
        number = exchange.number
        exchanges.append(exchange)
    return exchanges


def _told(rng: random.Random, exchange: Exchange, offered: frozenset[str]) -> Exchange:
    """The exchange as it goes when its tool is not on offer, or fails."""
    if not exchange.calls:
        return exchange
    name = exchange.calls[0].name
    if not offered:
        return Exchange(
            exchange.user, "I need my tools for that, and none are offered here: without them I would only be guessing."
        )
    if name not in offered:
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
