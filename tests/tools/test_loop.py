"""Rounds of calls and results: who may run, what is demanded in which round, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

import headrace
import headrace.tools.builtin
from headrace.events import Done, Event, Text, Timings, ToolCall, ToolResult, Usage
from headrace.tools.loop import Tool, Toolbox, converse


def double(n: int) -> int:
    """Doubles."""
    return 2 * n


@headrace.safe
def harmless() -> str:
    """Does nothing."""
    return "done"


def interrupted() -> str:
    """Takes long."""
    raise KeyboardInterrupt


class Model:
    """Says what it is told to, round after round, and keeps what it was asked."""

    def __init__(self, *rounds: Sequence[Event]) -> None:
        self.rounds = list(rounds)
        self.asked: list[tuple[list[Mapping[str, Any]], str | None]] = []

    def __call__(self, messages: Sequence[Mapping[str, Any]], choice: str | None) -> Iterator[Event]:
        self.asked.append(([dict(message) for message in messages], choice))
        yield from self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]
        yield Done("stop", Usage(10, 3, 1), Timings(0.5, 1, 2, 1.5))


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("call_0", name, arguments)


def test_results_go_back_until_nothing_is_called() -> None:
    model = Model([Text("Well: "), call("double", n=2)], [Text("It is 4.")])
    messages: list[dict[str, Any]] = [{"role": "user", "content": "2 * 2?"}]
    *events, done = converse(model, messages, Toolbox([double]), rounds=8)
    assert events == [Text("Well: "), call("double", n=2), ToolResult("call_0", "double", "4"), Text("It is 4.")]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert isinstance(done, Done)
    assert done.usage == Usage(20, 6, 2)
    assert done.timings == Timings(1, 2, 4, 1.5)


def test_a_call_is_demanded_once_and_the_last_answer_does_without() -> None:
    model = Model([call("double", n=1)])
    *events, _ = converse(model, [], Toolbox([double]), rounds=2)
    assert [choice for _, choice in model.asked] == [None, "auto", "none"]
    assert len([event for event in events if isinstance(event, ToolResult)]) == 2


def test_without_rounds_calls_are_left_to_the_caller() -> None:
    model = Model([call("double", n=1)])
    assert len(list(converse(model, [], Toolbox([double]), rounds=0))) == 2
    assert len(model.asked) == 1


def test_what_is_only_offered_ends_the_answer() -> None:
    model = Model([call("f")])
    assert not any(isinstance(event, ToolResult) for event in converse(model, [], Toolbox([{"name": "f"}]), rounds=8))


def test_what_is_not_safe_is_asked_about() -> None:
    asked = []

    def approve(made: ToolCall) -> bool:
        asked.append(made.name)
        return True

    toolbox = Toolbox([double, harmless, headrace.tools.builtin.calculate])
    assert toolbox.run(call("double", n=4), approve).content == "8"
    assert toolbox.run(call("harmless"), approve).content == "done"
    assert toolbox.run(call("calculate", expression="1+1"), approve).content == "2"
    assert asked == ["double"]


@pytest.mark.parametrize(
    ("answer", "content"),
    [(False, "error: the user does not want it to run"), ("not on Sundays", "error: not on Sundays")],
)
def test_a_refusal_is_told_to_the_model(answer: bool | str, content: str) -> None:
    ran = []

    def f() -> None:
        """F"""
        ran.append(1)

    result = Toolbox([f]).run(call("f"), lambda _: answer)
    assert (result.content, result.error, ran) == (content, True, [])


def test_ctrl_c_ends_the_tool_and_not_the_answer() -> None:
    result = Toolbox([interrupted]).run(call("interrupted"))
    assert (result.content, result.error) == ("error: the user stopped it", True)
    model = Model([call("interrupted")], [Text("Then not.")])
    assert Text("Then not.") in list(converse(model, [], Toolbox([interrupted]), rounds=8))


def test_the_door_for_tools_that_are_no_functions() -> None:
    """As a protocol would bring them: a schema, and something that takes the arguments."""
    remote = Tool({"name": "far", "inputs": 1}, run=lambda arguments: {"got": arguments})
    result = Toolbox([remote]).run(call("far", x=[1]))
    assert result.content == '{"got": {"x": [1]}}'
    assert Toolbox([remote]).run(call("far"), lambda _: False).error  # asked about, like any other
    assert not Toolbox([Tool({"name": "far"})]).runnable


def test_a_model_runs_what_it_is_given() -> None:
    with headrace.load("nano") as model:
        question = [{"role": "user", "content": "What is 37 * 12?"}]
        refused = list(model.chat(question, [*headrace.tools.builtin.BUILTIN, double], run_tools=True))
        assert any(isinstance(event, ToolResult) and event.content == "444" for event in refused)
