"""From a Python function to a schema, and from a call to a result: whatever goes wrong is text for the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest

from headrace.errors import RequestInvalid, ToolFailed
from headrace.events import ToolCall
from headrace.tools.builtin import BUILTIN, builtin_schemas
from headrace.tools.loop import MAX_RESULT_CHARACTERS, Toolbox, toolbox_of
from headrace.tools.schema import schema_of


def search(
    query: str,
    limit: int = 5,
    ratio: float = 0.5,
    tags: list[str] | None = None,
    order: Literal["new", "old"] = "new",
    exact: Annotated[bool, "whole words only"] = False,
) -> str:
    """Search the archive.

    More than the first line is for people.

    Args:
        query: what to look for,
            in any words
        limit (int): at most this many
    """
    return f"{query} {limit} {ratio} {tags} {order} {exact}"


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall("call_0", name, arguments)


def test_a_function_as_the_model_sees_it() -> None:
    assert schema_of(search) == {
        "name": "search",
        "description": "Search the archive.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "what to look for, in any words"},
                "limit": {"type": "integer", "description": "at most this many"},
                "ratio": {"type": "number"},
                "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
                "order": {"type": "string", "enum": ["new", "old"]},
                "exact": {"type": "boolean", "description": "whole words only"},
            },
            "required": ["query"],
        },
    }


def no_hint(x): ...  # type: ignore[no-untyped-def]
def star(*xs: int) -> None: ...
def by_place(x: int, /) -> None: ...
def odd(x: set[int]) -> None: ...
async def later(x: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (no_hint, "parameter x has no type hint"),
        (star, r"parameter \*xs has no name of its own"),
        (by_place, "positional-only"),
        (odd, "has the type"),
        (later, "asynchronous"),
        (lambda: 1, "no usable name"),
    ],
)
def test_what_a_schema_cannot_say_is_refused(function: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        schema_of(function)


def test_the_six_built_in_tools() -> None:
    """What nano was trained on: a change here is a new training."""
    shown = {schema["name"]: list(schema["parameters"]["properties"]) for schema in builtin_schemas()}
    assert shown == {
        "calculate": ["expression"],
        "current_time": ["timezone"],
        "add_to_date": ["date", "days", "weeks", "months", "years"],
        "days_between": ["start", "end"],
        "convert_units": ["value", "from_unit", "to_unit"],
        "text_statistics": ["text"],
    }


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
        (call("search", query="x", depth=1), "error: search has no argument 'depth'"),
        (call("search", query=5), "error: argument 'query' of search must be a string, not 5"),
        (call("search", query="x", order="odd"), "error: argument 'order' of search must be one of 'new', 'old'"),
        (call("search", query="x", tags=["a", 1]), "error: argument 'tags' of search must be"),
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

    toolbox = Toolbox([fails, crashes])
    assert toolbox.run(call("fails")).content == "error: no such city"
    assert toolbox.run(call("crashes")).content == "error: KeyError: 'x'"
    assert toolbox.run(call("crashes")).error


def test_long_results_are_cut_with_a_note() -> None:
    def long() -> str:
        """L"""
        return "x" * (MAX_RESULT_CHARACTERS + 7)

    assert Toolbox([long]).run(call("long")).content.endswith("x\n[7 more characters were left out]")


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
    ],
)
def test_what_is_no_list_of_tools(tools: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        toolbox_of(tools)


def test_none_and_builtin() -> None:
    assert toolbox_of(None).schemas == []
    assert list(toolbox_of("builtin").runnable.values()) == list(BUILTIN)
