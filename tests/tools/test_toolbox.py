"""From a call to a result: whatever goes wrong is text for the model."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from headrace.errors import RequestInvalid, ToolFailed
from headrace.events import ToolCall
from headrace.tools.builtin import BUILTIN
from headrace.tools.loop import MAX_RESULT_CHARACTERS, Toolbox, toolbox_of


def search(
    query: str,
    limit: int = 5,
    ratio: float = 0.5,
    tags: list[str] | None = None,
    order: Literal["new", "old"] = "new",
    depth: int | None = None,
) -> str:
    """Search the archive."""
    return f"{query} {limit} {ratio} {tags} {order} {depth}"


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("call_0", name, arguments)


def test_results_are_text_or_json() -> None:
    def text() -> str:
        """T"""
        return "as it is"

    def data() -> dict[str, Any]:
        """D"""
        return {"é": [1, None]}

    toolbox = Toolbox([text, data])
    assert toolbox.run(call("text")).content == "as it is"
    assert toolbox.run(call("data")).content == '{"é": [1, null]}'


def test_whole_numbers_are_numbers_and_truth_is_not() -> None:
    toolbox = Toolbox([search])
    assert not toolbox.run(call("search", query="x", ratio=1)).error
    assert toolbox.run(call("search", query="x", limit=True)).error


@pytest.mark.parametrize(
    ("asked", "content"),
    [
        (call("serch"), "error: unknown tool 'serch': the tools are search, later"),
        (call("later"), "error: later cannot be run here: only its schema was given"),
        (call("search"), "error: search needs the argument 'query'"),
        (call("search", query="x", width=1), "error: search has no argument 'width'"),
        (call("search", query=5), "error: argument 'query' of search must be a string, not 5"),
        (call("search", query="x", order="odd"), "error: argument 'order' of search must be one of 'new', 'old'"),
        (
            call("search", query="x", tags=["a", 1]),
            "error: argument 'tags' of search must be an array whose items are each a string or null, not [\"a\", 1]",
        ),
        (
            call("search", query="x", depth="deep"),
            "error: argument 'depth' of search must be an integer or null, not \"deep\"",
        ),
        (
            call("search", query="x", limit={"a": (1, {2})}),
            "error: argument 'limit' of search must be an integer, not {",
        ),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(asked: ToolCall, content: str) -> None:
    result = Toolbox([search, {"name": "later"}]).run(asked)
    assert result.error
    assert result.content.startswith(content)


def test_what_a_tool_raises_goes_back_as_text() -> None:
    def fails() -> str:
        """F"""
        raise ToolFailed("no such city")

    def crashes() -> str:
        """C"""
        raise KeyError("x")

    def unsayable() -> object:
        """U"""
        return {1j}

    toolbox = Toolbox([fails, crashes, unsayable])
    assert toolbox.run(call("unsayable")).content.startswith("error: TypeError: ")
    assert toolbox.run(call("fails")).content == "error: no such city"
    assert toolbox.run(call("crashes")).content == "error: KeyError: 'x'"
    assert toolbox.run(call("crashes")).error


def test_long_results_are_cut_with_a_note() -> None:
    def long() -> str:
        """L"""
        return "x" * (MAX_RESULT_CHARACTERS + 7)

    def long_failure() -> str:
        """L"""
        raise ToolFailed("x" * 2 * MAX_RESULT_CHARACTERS)

    toolbox = Toolbox([long, long_failure])
    assert toolbox.run(call("long")).content == "x" * MAX_RESULT_CHARACTERS + "\n[7 more characters were left out]"
    assert len(toolbox.run(call("long_failure")).content) < MAX_RESULT_CHARACTERS + 100
    assert 1_000 <= MAX_RESULT_CHARACTERS <= 20_000  # a few thousand tokens: room for more than one in a window


def test_schemas_are_kept_as_given() -> None:
    openai = {"type": "function", "function": {"name": "f", "parameters": {}}}
    bare = {"name": "g", "extra": 1}
    toolbox = Toolbox([openai, bare])
    assert toolbox.schemas == [openai, bare]
    assert toolbox.names == ["f", "g"]
    assert not toolbox.runnable


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ("built-in", "give None"),
        ([{"name": "f"}, {"name": "f"}], "two tools are named 'f'"),
        ([{}], 'no "name"'),
        ([5], "5 is not a tool"),
        ([{"name": ""}], 'no "name"'),
        ([search, {"function": {"name": "search"}}], "two tools are named 'search'"),
        ({"name": "f"}, "give None"),
    ],
)
def test_what_is_no_list_of_tools(tools: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        toolbox_of(tools)


def test_none_and_builtin() -> None:
    assert toolbox_of(None).schemas == []
    builtin = toolbox_of("builtin").runnable
    assert list(builtin) == [function.__name__ for function in BUILTIN]
    assert all(tool.safe for tool in builtin.values())
