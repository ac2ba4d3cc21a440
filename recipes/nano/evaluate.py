"""Evaluation of the file that ships, through Headrace itself: greedy, no grammar, sentences and values that are not in training."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import headrace
from headrace.events import Event, Text, ToolCall
from headrace.text.calls import ReplyParser
from headrace.tools.builtin import calculate
from recipes.nano import dialogues
from recipes.nano.arithmetic import arithmetic
from recipes.nano.dates import add_to_date, clock, days_between
from recipes.nano.exchange import Exchange
from recipes.nano.measures import convert_units, text_statistics
from recipes.nano.talk import outside, small_talk

GENERATED = (arithmetic, clock, add_to_date, days_between, convert_units, text_statistics, small_talk, outside)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: how many of how many were right, and what went wrong in the others."""

    name: str
    right: int
    total: int
    failures: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name:28} {self.right:4} of {self.total:4}  {100 * self.right / self.total:5.1f} %"


def evaluate(path: Path, each: int = 50, seed: int = 1000) -> Iterator[Row]:
    """A row for each thing that nano must do."""
    with headrace.load(str(path)) as model:
        yield from (products(model, operator, seed) for operator in "*+-/")
        yield from (replaced(model), handwritten(model), without_tools(model))
        for kind in GENERATED:
            yield from generated(model, kind, each, seed)


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


# Written by hand, in words that the generators do not use: the call that must be made, or a piece of the answer.
HANDWRITTEN = (
    ("What is 37 * 12?", 'calculate(expression="37 * 12")'),
    ("what does 37 times 12 come out at?", 'calculate(expression="37 * 12")'),
    ("37x12", 'calculate(expression="37 * 12")'),
    ("multiply 37 by 12", 'calculate(expression="37 * 12")'),
    ("37 by 12, multiplied, is what?", 'calculate(expression="37 * 12")'),
    ("What's 15% of 80?", 'calculate(expression="15% * 80")'),
    ("How much would 15 percent of 80 be?", 'calculate(expression="15% * 80")'),
    ("Could you add 458 and 7712 for me?", 'calculate(expression="458 + 7712")'),
    ("take 17 from 90", 'calculate(expression="90 - 17")'),
    ("What do 12.5 and 3.75 sum to?", 'calculate(expression="12.5 + 3.75")'),
    ("144 divided by 12 please", 'calculate(expression="144 / 12")'),
    ("I wonder what 81 divided by 9 is", 'calculate(expression="81 / 9")'),
    ("(4 + 5) * 6", 'calculate(expression="(4 + 5) * 6")'),
    ("What would (120 - 45) / 5 be?", 'calculate(expression="(120 - 45) / 5")'),
    ("square root of 625?", 'calculate(expression="sqrt(625)")'),
    ("what is 2 to the power of 16", 'calculate(expression="2 ** 16")'),
    ("seven times eight", 'calculate(expression="7 * 8")'),
    ("how much is twelve plus thirty", 'calculate(expression="12 + 30")'),
    ("Find me the product of 19 and 23.", 'calculate(expression="19 * 23")'),
    ("whats 1000000 - 1", 'calculate(expression="1000000 - 1")'),
    ("My boss wants to know 4521 * 87", 'calculate(expression="4521 * 87")'),
    ("What's the average of 4, 8 and 15?", 'calculate(expression="(4 + 8 + 15) / 3")'),
    ("6 pens at 3 dollars each, what do I owe?", 'calculate(expression="6 * 3")'),
    ("If I split 96 sweets between 8 kids, how many each?", 'calculate(expression="96 / 8")'),
    ("What time is it?", "current_time()"),
    ("Would you tell me what time it is?", "current_time()"),
    ("time please", "current_time()"),
    ("What's the date today?", "current_time()"),
    ("Which day is it today?", "current_time()"),
    ("Is it Monday today?", "current_time()"),
    ("What time is it in Tokyo?", 'current_time(timezone="Asia/Tokyo")'),
    ("Tell me what the clock says in New York", 'current_time(timezone="America/New_York")'),
    ("What is the date in 10 days?", 'add_to_date(date="today", days=10)'),
    ("Which date will it be 3 weeks from now?", 'add_to_date(date="today", weeks=3)'),
    ("What was the date 45 days ago?", 'add_to_date(date="today", days=-45)'),
    ("Add 2 months to 2026-05-31", 'add_to_date(date="2026-05-31", months=2)'),
    ("What comes 100 days after March 3, 2025?", 'add_to_date(date="2025-03-03", days=100)'),
    ("What day of the week is 4 July 2027?", 'add_to_date(date="2027-07-04", days=0)'),
    ("What's the date tomorrow?", 'add_to_date(date="today", days=1)'),
    ("How many days are there between 2026-01-01 and 2026-12-24?", 'days_between(start="2026-01-01", end="2026-12-24")'),
    ("How many days until 2026-12-25?", 'days_between(start="today", end="2026-12-25")'),
    ("Days from 1 May 2024 to 3 June 2024", 'days_between(start="2024-05-01", end="2024-06-03")'),
    ("Count the days since 12 April 1961", 'days_between(start="1961-04-12", end="today")'),
    ("What is 5 km in miles?", 'convert_units(value=5, from_unit="km", to_unit="mi")'),
    ("convert 70 fahrenheit to celsius", 'convert_units(value=70, from_unit="°F", to_unit="°C")'),
    ("How many inches are in 3 feet?", 'convert_units(value=3, from_unit="ft", to_unit="in")'),
    ("I weigh 80 kg, what is that in pounds?", 'convert_units(value=80, from_unit="kg", to_unit="lb")'),
    ("100 mph in km/h", 'convert_units(value=100, from_unit="mph", to_unit="km/h")'),
    ("What would 2.5 liters be in gallons?", 'convert_units(value=2.5, from_unit="l", to_unit="gal")'),
    ("how many minutes do 3 hours have", 'convert_units(value=3, from_unit="h", to_unit="min")'),
    ("Turn 12 ounces into grams", 'convert_units(value=12, from_unit="oz", to_unit="g")'),
    ("How many MB is 2 GB?", 'convert_units(value=2, from_unit="GB", to_unit="MB")'),
    ('How many words are in "the quick brown fox"?', 'text_statistics(text="the quick brown fox")'),
    ('How many letters does "hello world" have?', 'text_statistics(text="hello world")'),
    ('Count the sentences in "I came. I saw. I won."', 'text_statistics(text="I came. I saw. I won.")'),
    ("Hello!", "Hello!"), ("hey there nano", "Hello!"), ("good evening", "Hello!"), ("how's life?", "well"),
    ("Thanks a bunch!", "welcome"), ("thank you", "welcome"), ("bye", "Goodbye"), ("See you next time!", "Goodbye"),
    ("Who are you?", "I am nano"), ("what exactly are you?", "I am nano"), ("What can you do?", "calculate"),
    ("What are your talents?", "calculate"), ("what sort of things can I ask?", "calculate"), ("Who made you?", "Headrace"),
    ("Write me a poem about the sea.", "cannot"), ("Who is the president of France?", "cannot"), ("What is the capital of Peru?", "cannot"),
    ("Translate 'good morning' into German.", "cannot"), ("How do I bake bread?", "cannot"), ("Tell me a joke.", "cannot"),
    ("What is the weather like today?", "cannot"), ("Who wrote Hamlet?", "cannot"), ("Fix this Python function for me", "cannot"),
    ("Give me three tips for learning chess", "cannot"), ("Which football team is the best?", "cannot"),
    ("Was Napoleon short?", "cannot"), ("I need a recipe for tomato soup", "cannot"), ("Sing something", "cannot"),
)  # fmt: skip


def handwritten(model: headrace.Model) -> Row:
    failures = []
    for ask, wanted in HANDWRITTEN:
        calls, answer = chat(model, ask, "builtin", run=False)
        if not (calls == [wanted] if wanted.endswith(")") else not calls and wanted in answer):
            failures.append(f"{ask} -> {calls} {answer}")
    return Row("written by hand", len(HANDWRITTEN) - len(failures), len(HANDWRITTEN), tuple(failures))


def without_tools(model: headrace.Model) -> Row:
    """No tools: it says that it needs them."""
    asks = [ask for ask, wanted in HANDWRITTEN if wanted.endswith(")")][::2]
    failures = []
    for ask in asks:
        calls, answer = chat(model, ask, None)
        if calls or "need my tools" not in answer:
            failures.append(f"{ask} -> {calls} {answer}")
    return Row("no tools offered", len(asks) - len(failures), len(asks), tuple(failures))


def generated(
    model: headrace.Model, kind: Callable[[random.Random, str], Exchange], count: int, seed: int
) -> list[Row]:
    """Unseen values in the generators' wordings: the call exact, and the answer exact from a random result."""
    rng = random.Random(f"{seed}{kind.__name__}")
    wrong: dict[str, list[str]] = {"call": [], "answer": []}
    totals: Counter[str] = Counter()
    for _ in range(count):
        turns = dialogues.messages([kind(rng, "")])
        for index, turn in enumerate(turns):
            if turn["role"] == "assistant":
                got = said(model, turns[:index])
                step = "answer" if index == len(turns) - 1 else "call"
                totals[step] += 1
                if got != parse(turn["content"]):
                    wrong[step].append(f"{turns[0]['content']} -> {got} (wanted {turn['content']})")
    return [Row(f"{kind.__name__}, {step}", n - len(wrong[step]), n, tuple(wrong[step])) for step, n in totals.items()]


def said(model: headrace.Model, turns: list[dialogues.Message]) -> list[object]:
    """The next assistant turn: its calls and its text."""
    return _content(model.chat(turns, tools="builtin", temperature=0, num_predict=150))


def parse(content: str) -> list[object]:
    parser = ReplyParser()
    return _content([*parser.feed(content), *parser.finish()])


def _content(events: Iterable[Event]) -> list[object]:
    kept: list[object] = []
    text = ""
    for event in events:
        if isinstance(event, ToolCall):
            kept.append((event.name, event.arguments))
        elif isinstance(event, Text):
            text += event.text
    return [*kept, text]


def chat(model: headrace.Model, ask: str, tools: Any, run: bool = True) -> tuple[list[str], str]:
    """Calls and final text of one question."""
    calls: list[str] = []
    answer = ""
    for event in model.chat(
        [{"role": "user", "content": ask}], tools=tools, run_tools=run, temperature=0, num_predict=150
    ):
        match event:
            case ToolCall(name=name, arguments=arguments):
                shown = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
                calls.append(f"{name}({shown})")
                answer = ""
            case Text(text):
                answer += text
    return calls, answer
