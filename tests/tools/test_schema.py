"""From a Python function to what the model is shown of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Optional

import pytest

from headrace.errors import RequestInvalid
from headrace.tools.builtin import builtin_schemas
from headrace.tools.schema import fits, schema_of


def search(
    query: str,
    limit: int = 5,
    ratio: float = 0.5,
    tags: list[str] | None = None,
    order: Literal["new", "old"] = "new",
    exact: Annotated[bool, "whole words only"] = False,
    *,
    page: Annotated[int, "hidden by the docstring"] = 1,
) -> str:
    """Search the archive.

    More than the first line is for people.

    Args:
        query: what to look for,
            in any words
        limit (int): at most this many
        page: counted from 1

    Returns:
        order: what was found
    """
    return f"{query} {limit} {ratio} {tags} {order} {exact} {page}"


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
                "page": {"type": "integer", "description": "counted from 1"},
            },
            "required": ["query"],
        },
    }


def ghost(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def named(**xs: int) -> None: ...
def keys(x: dict[int, str]) -> None: ...
def choice(x: Literal[b"bytes"]) -> None: ...
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
        (named, r"parameter \*xs has no name of its own"),
        (ghost, "its type hints cannot be read"),
        (keys, r"has the type dict\[int, str\]: use str, int"),
        (choice, "has a Literal that JSON cannot say"),
        (dict.get, "tool get"),
        (by_place, "positional-only"),
        (odd, r"tool odd: parameter x has the type set\[int\]: use str, int, float"),
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


STRINGS = {"type": "array", "items": {"type": "string"}}


@pytest.mark.parametrize(
    ("hint", "schema", "good", "bad"),
    [
        (str, {"type": "string"}, ["", "x"], [1, None, ["x"]]),
        (int, {"type": "integer"}, [0, -5, 10**30], [1.0, True, "1", None]),
        (float, {"type": "number"}, [1, 1.5], [True, "1.5", None]),
        (bool, {"type": "boolean"}, [True, False], [1, 0, "true", None]),
        (list, {"type": "array"}, [[], [1, "x", None]], [{}, "x", None]),
        (list[str], STRINGS, [[], ["x"]], [[1], ["x", None], "x"]),
        (list[list[str]], {"type": "array", "items": STRINGS}, [[], [["x"]]], [["x"], [[1]]]),
        (list[Annotated[int, "a size"]], {"type": "array", "items": {"type": "integer"}}, [[1]], [["1"]]),
        (dict, {"type": "object"}, [{}, {"a": [1]}], [[], None, {1: 2}]),
        (dict[str, Any], {"type": "object"}, [{}, {"a": None}], [[], {1: 2}]),
        (
            dict[str, int],
            {"type": "object", "additionalProperties": {"type": "integer"}},
            [{}, {"a": 1}],
            [{"a": "1"}, {1: 1}],
        ),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, ["a"], ["c", 1, None]),
        (
            Literal[1, "a", None],
            {"type": ["integer", "string", "null"], "enum": [1, "a", None]},
            [1, "a", None],
            [True, "b"],
        ),
        (str | None, {"type": ["string", "null"]}, ["x", None], [1, True]),
        (Optional[int], {"type": ["integer", "null"]}, [1, None], [1.5, True, "x"]),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}, [1, "x"], [None, True, 1.5]),
        (list[str] | None, {"anyOf": [STRINGS, {"type": "null"}]}, [["x"], None], ["x", [1]]),
    ],
)
def test_hints_and_the_values_that_fit_them(hint: Any, schema: Any, good: list[Any], bad: list[Any]) -> None:
    def tool(value):  # type: ignore[no-untyped-def]
        """T"""

    tool.__annotations__ = {"value": hint}
    assert schema_of(tool)["parameters"]["properties"]["value"] == schema
    assert [value for value in good if not fits(value, schema)] == []
    assert [value for value in bad if fits(value, schema)] == []
