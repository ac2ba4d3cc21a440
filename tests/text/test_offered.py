"""Arguments by place: given names where the schema leaves no doubt."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.text.offered import bind


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


INTEGER, STRING, OBJECT = {"type": "integer"}, {"type": "string"}, {"type": "object"}
CHOICE = {"type": "string", "enum": ["c", "f"]}


@pytest.mark.parametrize(
    ("positional", "keywords", "parameters", "arguments"),
    [
        ([], {"z": 1}, None, {"z": 1}),
        ([1], {}, schema(a=INTEGER, b=INTEGER), {"a": 1}),
        ([1, "x"], {"c": 2}, schema(a=INTEGER, b=STRING, c={}), {"a": 1, "b": "x", "c": 2}),
        (["c"], {}, schema(unit=CHOICE), {"unit": "c"}),
        ([1], {}, schema(a={"type": ["string", "integer"]}), {"a": 1}),
        ([None], {}, schema(a={"type": ["string", "null"]}), {"a": None}),
        ([1], {}, schema(a={"type": "number"}), {"a": 1}),
        ([[1]], {}, schema(a=True), {"a": [1]}),  # a schema may be a mere boolean
        ([{"a": 1}], {}, None, {"a": 1}),
        ([{}], {}, schema(a=INTEGER), {}),
        ([{"a": 1}], {}, schema(a=INTEGER, b=STRING), {"a": 1}),
        ([{"o": 1}], {}, schema(o=OBJECT), {"o": 1}),
        ([{"k": 1}], {}, schema(o=OBJECT, b=STRING), {"o": {"k": 1}}),
        ([{"k": 1}], {}, schema(a=INTEGER), {"k": 1}),  # no parameter takes it: these are its arguments, wrong ones
        ([{"k": 1}, "x"], {}, schema(o=OBJECT, b=STRING), {"o": {"k": 1}, "b": "x"}),
    ],
)
def test_places_that_are_clear(positional: Any, keywords: Any, parameters: Any, arguments: Any) -> None:
    assert repr(bind(positional, keywords, parameters)) == repr(arguments)


@pytest.mark.parametrize(
    ("positional", "keywords", "parameters"),
    [
        ([1], {}, None),
        ([1], {}, {}),
        ([1], {}, {"properties": []}),
        ([1, 2], {}, schema(a=INTEGER)),
        ([1], {"a": 2}, schema(a=INTEGER, b=INTEGER)),
        (["x"], {}, schema(a=INTEGER)),
        ([True], {}, schema(a=INTEGER)),
        ([1], {}, schema(a={"type": "boolean"})),
        (["k"], {}, schema(unit=CHOICE)),
    ],
)
def test_places_that_are_not(positional: Any, keywords: Any, parameters: Any) -> None:
    with pytest.raises(ValueError, match=r"argument"):
        bind(positional, keywords, parameters)
