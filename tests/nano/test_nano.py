"""The embedded model does its job: it calls the right tool, says what the tool says, and knows what it cannot do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Model, Text, ToolCall
from headrace.errors import ToolFailed
from headrace.tools.builtin import BUILTIN


@pytest.fixture(scope="module")
def nano() -> Iterator[Model]:
    with headrace.load("nano") as model:
        yield model


def ask(model: Model, question: str, tools: Any = "builtin") -> tuple[str, list[ToolCall]]:
    events = list(model.chat([{"role": "user", "content": question}], tools=tools, run_tools=True))
    text = "".join(event.text for event in events if isinstance(event, Text))
    return text, [event for event in events if isinstance(event, ToolCall)]


def replaced(name: str, function: Callable[..., Any]) -> list[Any]:
    """The built-in tools, one of them giving something else; its name, hints and words stay."""
    original = next(tool for tool in BUILTIN if tool.__name__ == name)
    function.__name__, function.__doc__ = original.__name__, original.__doc__
    return [function if tool is original else tool for tool in BUILTIN]


def test_the_file_is_small() -> None:
    assert (Path(headrace.__file__).parent / "nano" / "nano.gguf").stat().st_size <= 16_000_000


def test_twenty_random_products(nano: Model) -> None:
    """18 of 20: both factors reach the calculator, and its figure the answer."""
    numbers = random.Random(20261124)
    right = 0
    for _ in range(20):
        a, b = numbers.randrange(2, 10_000), numbers.randrange(2, 1000)
        answer, calls = ask(nano, f"What is {a} * {b}?")
        right += bool(calls) and re.search(rf"\b{a * b}\b", answer) is not None
    assert right >= 18


@pytest.mark.parametrize(
    "question",
    ["What is 37 * 12?", "multiply 37 by 12", "How much is 37 times 12?", "37x12", "please calculate 37 * 12"],
)
def test_it_says_what_the_calculator_says(question: str, nano: Model) -> None:
    def calculate(expression: str) -> Any:  # noqa: ARG001
        return 1000003

    answer, calls = ask(nano, question, replaced("calculate", calculate))
    assert [call.name for call in calls] == ["calculate"]
    assert calls[0].arguments["expression"].replace(" ", "") == "37*12"
    assert "1000003" in answer
    assert "444" not in answer


def test_it_tells_of_an_error_honestly(nano: Model) -> None:
    def calculate(expression: str) -> Any:  # noqa: ARG001
        raise ToolFailed("division by zero")

    answer, _ = ask(nano, "What is 7 / 0?", replaced("calculate", calculate))
    assert "division by zero" in answer


@pytest.mark.parametrize(
    ("question", "tool", "arguments"),
    [
        ("What time is it?", "current_time", {}),
        ("What is the date today?", "current_time", {}),
        ("How many miles are 5 km?", "convert_units", {"value": 5, "from_unit": "km", "to_unit": "mi"}),
        ("Add 3 weeks to 2026-03-05", "add_to_date", {"date": "2026-03-05", "weeks": 3}),
    ],
)
def test_it_calls_the_right_tool(question: str, tool: str, arguments: dict[str, Any], nano: Model) -> None:
    answer, calls = ask(nano, question)
    assert [(call.name, call.arguments) for call in calls] == [(tool, arguments)]
    assert answer


def test_it_greets_introduces_itself_and_knows_its_limits(nano: Model) -> None:
    assert "nano" in ask(nano, "Who are you?")[0]
    for question in ("Hello", "What is the capital of France?", "Write a poem about the sea"):
        answer, calls = ask(nano, question)
        assert answer
        assert not calls


def test_without_tools_it_makes_up_nothing(nano: Model) -> None:
    for question in ("What is 37 * 12?", "What time is it?"):
        answer, calls = ask(nano, question, tools=None)
        assert not calls
        assert not re.search(r"\d", answer)
        assert "tool" in answer


def test_a_conversation_goes_on(nano: Model) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is 6 * 7?"}]
    transcript = headrace.Transcript(messages)
    for event in nano.chat(messages, tools="builtin", run_tools=True):
        transcript.add(event)
    assert messages[-1]["content"].rstrip(".").endswith("42")
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    messages.append({"role": "user", "content": "What is 100 / 8?"})
    text = "".join(e.text for e in nano.chat(messages, tools="builtin", run_tools=True) if isinstance(e, Text))
    assert "12.5" in text
