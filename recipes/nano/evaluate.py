"""Evaluation of the file that ships, through Headrace itself: greedy, no grammar, one model turn a case.

Generated cases hold only what training never had (tools, parameters, values, sentences); those written by hand were
written by people who had not seen the generators. "known" ones are our own list, looked at while the data were made.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import headrace
from headrace.errors import ToolFailed
from headrace.events import Text, ToolCall
from headrace.tools.builtin import builtin_schemas, calculate
from recipes.nano import dialogues
from recipes.nano.arithmetic import arithmetic
from recipes.nano.cases import GENERATED, Call, Case, generated, handwritten
from recipes.nano.dates import add_to_date, clock, days_between
from recipes.nano.exchange import Exchange
from recipes.nano.measures import convert_units, text_statistics
from recipes.nano.talk import outside, small_talk

Kind = Callable[[random.Random, str], Exchange]
BUILTIN: tuple[Kind, ...] = (arithmetic, clock, add_to_date, days_between, convert_units, text_statistics)
BY_HAND = ("builtin", "known", "one", "several", "none", "extract", "result", "talk", "needs_tools")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: how many of how many were right, and what went wrong in the others."""

    name: str
    right: int
    total: int
    failures: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.right / self.total

    def __str__(self) -> str:
        return f"{self.name:38} {self.right:4} of {self.total:4}  {100 * self.share:5.1f} %"


def evaluate(path: Path, each: int = 100, seed: int = 1000) -> Iterator[Row]:
    """A row for each thing that nano must do."""
    with headrace.load(str(path)) as model:
        yield from (products(model, operator, seed) for operator in "*+-/")
        yield replaced(model)
        yield from (scored(model, f"{kind}, generated", generated(kind, each, seed)) for kind in GENERATED)
        yield from (scored(model, f"{kind}, by hand", handwritten(kind)) for kind in BY_HAND)
        yield from (scored(model, f"{kind.__name__}, call", known_kind(kind, each, seed)) for kind in BUILTIN)
        yield from (scored(model, kind.__name__, known_kind(kind, each, seed)) for kind in (small_talk, outside))


def scored(model: headrace.Model, name: str, cases: Sequence[Case]) -> Row:
    failures = []
    for case in cases:
        calls, answer = turn(model, case)
        if not is_right(case, calls, answer):
            wanted = case.calls or case.answer or case.contains or case.contains_any
            failures.append(f"{case.request} -> {calls} {answer!r} (wanted {wanted})")
    return Row(name, len(cases) - len(failures), len(cases), tuple(failures))


def turn(model: headrace.Model, case: Case) -> tuple[list[Call], str]:
    """The model's next turn: its calls and its text."""
    calls: list[Call] = []
    answer = ""
    for event in model.chat(case.messages, tools=list(case.schemas) or None, temperature=0, num_predict=200):
        match event:
            case ToolCall(name=name, arguments=arguments):
                calls.append((name, dict(arguments)))
            case Text(text):
                answer += text
    return calls, answer


def is_right(case: Case, calls: Sequence[Call], answer: str) -> bool:
    """Calls exact, in any order; the text as wanted, where a text is."""
    if sorted(map(_normal, calls)) != sorted(map(_normal, case.calls)):
        return False
    if case.answer and not same_json(answer, case.answer):
        return False
    if case.no_digits and re.search(r"\d", answer):
        return False
    said = answer.casefold()
    wanted_one = [part.casefold() in said for part in case.contains_any] or [True]
    return all(part.casefold() in said for part in case.contains) and any(wanted_one)


def _normal(call: Call) -> str:
    """What must be equal: an expression may be written in another way of the same value."""
    name, arguments = call
    if name == "calculate" and set(arguments) == {"expression"}:
        with contextlib.suppress(ToolFailed, TypeError):
            return f"calculate {calculate(arguments['expression'])}"
    if name == "current_time" and arguments.get("timezone") == "local":
        arguments = {}
    return f"{name} {json.dumps(arguments, sort_keys=True)}"


def same_json(answer: str, wanted: str) -> bool:
    """One JSON object and nothing else, its keys in the order asked for, its values equal in type too."""
    try:
        got = json.loads(answer)
    except ValueError:
        return False
    return isinstance(got, dict) and json.dumps(got) == json.dumps(json.loads(wanted))


def known_kind(kind: Kind, count: int, seed: int) -> list[Case]:
    """Unseen values in the wordings of a generator that training used too, all built-in tools on offer."""
    rng = random.Random(f"{seed}{kind.__name__}")
    cases = []
    for _ in range(count):
        exchange = kind(rng, "")
        wanted = tuple((call.name, json.loads(_arguments(call.arguments))) for call in exchange.calls)
        turns = dialogues.messages([exchange])
        cases.append(Case(tuple(builtin_schemas()), (turns[0],), wanted, contains=() if wanted else (exchange.answer,)))
    return cases


def _arguments(arguments: dict[str, Any]) -> str:
    return json.dumps(
        {key: json.loads(value.text) if hasattr(value, "text") else value for key, value in arguments.items()}
    )


def products(model: headrace.Model, operator: str, seed: int, count: int = 20) -> Row:
    """Random numbers of two to five digits in wordings of our own; the answer must say the calculator's figure."""
    rng = random.Random(f"{seed}{operator}")
    asks = (
        "What is {a} {o} {b}?",
        "what's {a}{o}{b}",
        "Could you compute {a} {o} {b} for me?",
        "{a} {o} {b}",
        "I'd love to know {a} {o} {b}.",
    )
    failures = []
    for index in range(count):
        a, b = (rng.randrange(10, 10 ** rng.randrange(2, 6)) for _ in range(2))
        ask = asks[index % len(asks)].format(a=a, b=b, o=operator)
        wanted = json.dumps(calculate(f"{a} {operator} {b}"))
        calls, answer = chat(model, ask, "builtin")
        if not (len(calls) == 1 and says(answer, wanted)):
            failures.append(f"{ask} -> {calls} -> {answer} (wanted {wanted})")
    return Row(f"calculator, {operator}", count - len(failures), count, tuple(failures))


def says(answer: str, figure: str) -> bool:
    """The figure stands in the answer as a number of its own."""
    return figure in answer.replace(",", "").rstrip(".").split() or f" {figure}." in answer


def replaced(model: headrace.Model) -> Row:
    """A calculator that says 1000003, whatever it is asked."""

    def calculate(expression: str) -> int:  # the name is the tool's
        """Work out an arithmetic expression.

        Args:
            expression: such as 12 * (3 + 4.5)
        """
        return 1000003 if expression else 0

    asks = (
        "What is 37 * 12?", "What is 37 times 12?", "multiply 37 by 12", "37x12", "what's 15% of 80", "Compute 2 + 2.", "12 / 4",
        "How much is 100 minus 1?", "What is 7 * 8?", "Please work out 3.5 * 2", "2^10", "(3 + 4) * 5", "What is the sum of 3 and 4?",
        "sqrt(144)", "Add 5 and 6", "What is 999 + 1?", "How much is 6 times 7?", "1234 * 5678", "8 divided by 2", "What is 10 - 3?",
    )  # fmt: skip
    failures = []
    for ask in asks:
        calls, answer = chat(model, ask, [calculate])
        if not says(answer, "1000003"):
            failures.append(f"{ask} -> {calls} -> {answer}")
    return Row("calculator says 1000003", len(asks) - len(failures), len(asks), tuple(failures))


def chat(model: headrace.Model, ask: str, tools: Any) -> tuple[list[str], str]:
    """Calls and final text of one question, tools run."""
    calls: list[str] = []
    answer = ""
    for event in model.chat(
        [{"role": "user", "content": ask}], tools=tools, run_tools=True, temperature=0, num_predict=150
    ):
        match event:
            case ToolCall(name=name, arguments=arguments):
                shown = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
                calls.append(f"{name}({shown})")
                answer = ""
            case Text(text):
                answer += text
    return calls, answer
