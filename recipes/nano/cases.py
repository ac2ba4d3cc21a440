"""Cases of the evaluation: held-out generated ones, and those written by hand."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.text.calls import parse_calls
from headrace.tools.builtin import builtin_schemas
from recipes.nano import asking, dialogues, extraction, tools
from recipes.nano.asking import NONE_FITS
from recipes.nano.exchange import Exchange
from recipes.nano.offering import Offered
from recipes.nano.values import Values

HANDWRITTEN = Path(__file__).parent / "handwritten.jsonl"

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """What the model gets, and what its next turn must be: calls, exact JSON, or a text that holds something."""

    schemas: tuple[dict[str, Any], ...]
    messages: tuple[dict[str, Any], ...]
    calls: tuple[Call, ...] = ()
    answer: str = ""
    contains: tuple[str, ...] = ()
    contains_any: tuple[str, ...] = ()
    no_digits: bool = False

    @property
    def request(self) -> str:
        """The user's last words."""
        return str(next(turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"))


def generated(kind: str, count: int, seed: int) -> list[Case]:
    """`count` cases of one of GENERATED, from the held-out catalogue and held-out values."""
    rng = random.Random(f"{seed}/{kind}")
    values = Values(rng, held=True)
    return [GENERATED[kind](rng, values) for _ in range(count)]


def _one(rng: random.Random, values: Values) -> Case:
    narrow = tuple(entry for entry in tools.catalogue(True) if 1 <= len(entry.parameters) <= 3)
    return _called(rng, values, dialogues.some_tools(rng, 1, narrow, varied=False))


def _several(rng: random.Random, values: Values) -> Case:
    return _called(rng, values, dialogues.some_tools(rng, rng.randint(2, 5), tools.catalogue(True), varied=False))


def _called(rng: random.Random, values: Values, offered: list[Offered]) -> Case:
    text, call, _ = asking.asked(rng, values, rng.choice(offered), varied=False)
    text = asking.typed(rng, text, call.arguments.values())
    return Case(_schemas(offered), (_user(text),), tuple(parse_calls(f"[{call.text()}]")))


def _none(rng: random.Random, values: Values) -> Case:
    offered = dialogues.some_tools(rng, rng.randint(1, 5), tools.catalogue(True), varied=False)
    user = asking.unserved(rng, values, offered, tools.catalogue(True))
    return Case(_schemas(offered), (_user(user),), contains=(NONE_FITS,))


def _extraction(rng: random.Random, values: Values) -> Case:
    exchange = extraction.extraction(rng, values, extraction.catalogue(True), varied=False)
    return Case((), (_user(exchange.user),), answer=exchange.answer)


def _result(rng: random.Random, values: Values) -> Case:
    """The answer must hold every value of the result that the catalogue's own answer repeats."""
    while True:
        offered = dialogues.some_tools(rng, rng.randint(1, 3), tools.catalogue(True), varied=False)
        text, call, answer = asking.asked(rng, values, rng.choice(offered), varied=False)
        told = tuple(value for value in _leaves(call.result) if value in answer and len(value) > 1)
        if told:
            turns = dialogues.messages([Exchange(text, answer, (call,))])[:-1]
            return Case(_schemas(offered), tuple(turns), contains=told)


def _leaves(result: str) -> list[str]:
    """The values of a JSON result, or the numbers and codes of a text."""
    try:
        value = json.loads(result)
    except ValueError:
        return re.findall(r"[\w.:-]*\d[\w:-]*", result)
    found: list[str] = []
    pending = [value]
    while pending:
        match pending.pop():
            case dict() as members:
                pending += members.values()
            case list() as items:
                pending += items
            case str() as text:
                found.append(text)
            case int() | float() as number if not isinstance(number, bool):
                found.append(json.dumps(number))
    return found


GENERATED: dict[str, Callable[[random.Random, Values], Case]] = {
    "one unseen tool": _one,
    "two to five unseen tools": _several,
    "no tool fits": _none,
    "extraction": _extraction,
    "answer after a result": _result,
}


def handwritten(kind: str) -> list[Case]:
    """The cases of one kind in handwritten.jsonl."""
    return [_by_hand(row) for row in _rows() if row["kind"] == kind]


def _rows() -> Iterator[dict[str, Any]]:
    return map(json.loads, HANDWRITTEN.read_text(encoding="utf-8").splitlines())


def _by_hand(row: dict[str, Any]) -> Case:
    offered = builtin_schemas() if row["tools"] == "builtin" else row["tools"]
    messages = row.get("messages") or [_user(row["request"])]
    calls = tuple((call["name"], call["arguments"]) for call in row.get("calls", ()))
    return Case(
        (*offered, *row.get("others", ())), tuple(messages), calls, json.dumps(row["json"], ensure_ascii=False) if "json" in row else "",
        tuple(row.get("contains", ())), tuple(row.get("contains_any", ())), row.get("no_digits", False),
    )  # fmt: skip


def _schemas(offered: list[Offered]) -> tuple[dict[str, Any], ...]:
    return tuple(each.schema for each in offered)


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}
