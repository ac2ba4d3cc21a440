"""Calls as their tools' schemas allow them: which the grammar lets pass, and that these are read back as they fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest

from headrace.errors import RequestInvalid
from headrace.text.call_grammar import call_list
from headrace.text.grammar import Grammars, Matcher
from headrace.text.pythonic import parse_calls
from headrace.text.tokenizer import Tokenizer
from tests.text.random_tools import Draw

END = 11  # <|tool_call_end|>
ROWS = 65_536


@pytest.fixture(scope="module")
def grammars(from_json: Tokenizer) -> Grammars:
    return Grammars(from_json, ROWS, {2, 7})


@pytest.fixture
def allows(grammars: Grammars) -> Callable[..., bool]:
    """Whether calls of a tool `f` with this schema may be written so."""

    def check(schema: Any, text: str, **options: Any) -> bool:
        matcher = grammars.lark(call_list([{"name": "f", "parameters": schema}], f"<[{END}]>", **options))
        return passes(grammars, matcher, text)

    return check


def passes(grammars: Grammars, matcher: Matcher, text: str) -> bool:
    for token in [*grammars.tokenizer.encode(text), END]:
        if not allowed(matcher.mask())[token]:
            return False
        matcher.accept(token)
    return matcher.complete


def allowed(mask: Any) -> Any:
    return np.unpackbits(mask.view(np.uint8), bitorder="little")


def arguments(**properties: Any) -> dict[str, Any]:
    """A schema whose arguments are all required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


OPTIONAL = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
MIXED = OPTIONAL | {"required": ["b"]}
TREE = {
    "$defs": {"Tree": arguments(left={"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]})},
    **arguments(tree={"$ref": "#/$defs/Tree"}),
}
PAIR = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}
HEADS = {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]}
BY_PATTERN = {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False}
BOTH = {"allOf": [{"type": "integer", "minimum": 2}, {"type": "integer", "maximum": 5}]}
BOUNDED = arguments(s={"type": "string", "minLength": 2, "maxLength": 3})


@pytest.mark.parametrize(
    ("schema", "text", "passes_"),
    [
        # Arguments: required and optional ones, in any order, each once, no others.
        ({}, "[f()]", True),
        (None, "[f()]", True),
        ({"type": "object"}, "[f(a=1)]", False),
        (OPTIONAL, "[f()]", True),
        (OPTIONAL, "[f(a=1)]", True),
        (OPTIONAL, "[f(b=2, a=1)]", True),
        (OPTIONAL, "[f(a=1, a=2)]", False),
        (OPTIONAL, "[f(c=1)]", False),
        (OPTIONAL, "[f(a=1,)]", False),
        (MIXED, "[f()]", False),
        (MIXED, "[f(a=1)]", False),
        (MIXED, "[f(a=1, b=2)]", True),
        (MIXED, "[f(b=2)]", True),
        (OPTIONAL | {"minProperties": 1}, "[f()]", False),
        (OPTIONAL | {"maxProperties": 1}, "[f(a=1, b=2)]", False),
        (OPTIONAL | {"maxProperties": 1}, "[f(b=2)]", True),
        (MIXED | {"maxProperties": 1}, "[f(a=1", False),
        (OPTIONAL | {"additionalProperties": {"type": "null"}}, '[f(a=1, **{"x": None, "y": null})]', True),
        (OPTIONAL | {"additionalProperties": {"type": "null"}}, '[f(**{"a": None})]', False),
        (OPTIONAL | {"additionalProperties": {"type": "null"}}, '[f(**{"x": None}, **{"x": None})]', False),
        ({"type": "object", "required": ["z"]}, '[f(z="anything")]', True),
        # Names that are no identifiers.
        (arguments(**{"the-key": {"type": "integer"}}), '[f(**{"the-key": 1})]', True),
        (arguments(**{"from": {"type": "integer"}}), "[f(from=1)]", True),
        # Types, in both notations.
        (arguments(x={"type": "boolean"}), "[f(x=True)]", True),
        (arguments(x={"type": "boolean"}), "[f(x=false)]", True),
        (arguments(x={"type": "boolean"}), "[f(x=1)]", False),
        (arguments(x={"type": "null"}), "[f(x=None)]", True),
        (arguments(x={"type": "integer"}), "[f(x=-12)]", True),
        (arguments(x={"type": "integer"}), "[f(x=1.5)]", False),
        (arguments(x={"type": "integer"}), '[f(x="1")]', False),
        (arguments(x={"type": "integer", "minimum": 3, "exclusiveMaximum": 9}), "[f(x=8)]", True),
        (arguments(x={"type": "integer", "minimum": 3, "exclusiveMaximum": 9}), "[f(x=9)]", False),
        (arguments(x={"type": "integer", "multipleOf": 5}), "[f(x=35)]", True),
        (arguments(x={"type": "integer", "multipleOf": 5}), "[f(x=36)]", False),
        (arguments(x={"type": "number"}), "[f(x=1.5e3)]", True),
        (arguments(x={"type": "number"}), "[f(x=1e999)]", False),
        (arguments(x={"type": "number", "maximum": 0.5}), "[f(x=0.51)]", False),
        (arguments(x={"type": ["string", "null"]}), '[f(x="a")]', True),
        (arguments(x={"type": ["string", "null"]}), "[f(x=null)]", True),
        (arguments(x={"type": ["string", "null"]}), "[f(x=1)]", False),
        (arguments(x=True), '[f(x=[1, {"a": None}, "b"])]', True),
        # Strings: both quotes, escapes, length in characters.
        (arguments(s={"type": "string"}), "[f(s='it is \"so\"')]", True),
        (arguments(s={"type": "string"}), r'[f(s="say \"hi\"\n \d")]', True),
        (arguments(s={"type": "string"}), '[f(s="two\nlines")]', True),
        (arguments(s={"type": "string"}), '[f(s="open]', False),
        (arguments(s={"type": "string"}), r'[f(s="\ud83d")]', False),
        (BOUNDED, '[f(s="ab")]', True),
        (BOUNDED, '[f(s="日本語")]', True),
        (BOUNDED, r'[f(s="\n\"é")]', True),
        (BOUNDED, '[f(s="a")]', False),
        (BOUNDED, '[f(s="abcd")]', False),
        (BOUNDED, r'[f(s="\d")]', False),
        (arguments(s={"type": "string", "pattern": "^a+$"}), '[f(s="aaa")]', True),
        (arguments(s={"type": "string", "pattern": "^a+$"}), '[f(s="aab")]', False),
        (arguments(s={"type": "string", "format": "date"}), '[f(s="2024-02-29")]', True),
        (arguments(s={"type": "string", "format": "date"}), '[f(s="29.2.2024")]', False),
        (arguments(s={"type": "string", "format": "password"}), '[f(s="x")]', True),
        # Enumerations.
        (arguments(x={"enum": ["red", 1, None, [2, "a"]]}), '[f(x="red")]', True),
        (arguments(x={"enum": ["red", 1, None, [2, "a"]]}), "[f(x='red')]", True),
        (arguments(x={"enum": ["red", 1, None, [2, "a"]]}), "[f(x=[2, 'a'])]", True),
        (arguments(x={"enum": ["red", 1, None, [2, "a"]]}), "[f(x=2)]", False),
        (arguments(x={"type": "integer", "enum": ["red", 10, 1]}), "[f(x=10)]", True),
        (arguments(x={"type": "integer", "enum": ["red", 10, 1]}), '[f(x="red")]', False),
        (arguments(x={"const": False}), "[f(x=False)]", True),
        # Lists.
        (arguments(x=PAIR), "[f(x=[])]", False),
        (arguments(x=PAIR), "[f(x=[1, 2])]", True),
        (arguments(x=PAIR), "[f(x=[1, 2, 3])]", False),
        (arguments(x={"type": "array", "items": {"type": "integer"}, "maxItems": 0}), "[f(x=[])]", True),
        (arguments(x=HEADS), "[f(x=[1, None, 'x'])]", True),
        (arguments(x={"type": "array", "prefixItems": [{"type": "integer"}], "items": False}), "[f(x=[1, 2])]", False),
        # Objects, one in the other, open and closed.
        (arguments(x=MIXED), "[f(x={'b': 1, \"a\": 2})]", True),
        (arguments(x=MIXED), '[f(x={"a": 2})]', False),
        (arguments(x=MIXED), '[f(x={"b": 1, "c": 2})]', False),
        (arguments(x=MIXED | {"additionalProperties": True}), '[f(x={"b": 1, "c": 2})]', True),
        (arguments(x={"type": "object", "additionalProperties": {"type": "integer"}}), '[f(x={"k": 2})]', True),
        (arguments(x={"type": "object", "additionalProperties": {"type": "integer"}}), '[f(x={"k": "2"})]', False),
        (arguments(x=BY_PATTERN), '[f(x={"ab": 2})]', True),
        # Alternatives and references.
        (arguments(x={"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}), "[f(x=None)]", True),
        (arguments(x={"oneOf": [{"const": "a"}, {"const": "b"}]}), '[f(x="b")]', True),
        (arguments(x={"allOf": [{"type": "integer"}]}), "[f(x=1)]", True),
        (arguments(x=BOTH), "[f(x=6)]", False),
        (TREE, '[f(tree={"left": {"left": None}})]', True),
        (TREE, '[f(tree={"left": 1})]', False),
        # Lists of calls.
        (OPTIONAL, "[f(), f(a=1)]", True),
        (OPTIONAL, "[]", False),
        (OPTIONAL, "f()", False),
    ],
)  # fmt: skip
def test_what_may_be_written(schema: Any, text: str, passes_: bool, allows: Callable[..., bool]) -> None:
    assert allows(schema, text) == passes_
    if passes_:
        for _, found in parse_calls(text):
            jsonschema.Draft202012Validator(schema or {}).validate(found)


def test_one_call_where_parallel_ones_are_off(allows: Callable[..., bool]) -> None:
    assert allows(OPTIONAL, "[f()]", parallel=False)
    assert not allows(OPTIONAL, "[f(), f()]", parallel=False)


def test_names_that_begin_alike(grammars: Grammars) -> None:
    lark = call_list([{"name": "get"}, {"name": "get_all"}, {"name": "a.b"}], f"<[{END}]>")
    for text in ("[get()]", "[get_all()]", "[a.b(), get()]"):
        assert passes(grammars, grammars.lark(lark), text)
    assert not passes(grammars, grammars.lark(lark), "[get_a()]")


@pytest.mark.parametrize(
    ("tool", "sentence"),
    [
        ({"name": "a b"}, "'a b' cannot be written as a call"),
        ({"name": "f", "parameters": 5}, "parameters is a int"),
        ({"name": "f", "parameters": {"anyOf": []}}, "keyword 'anyOf' is not supported"),
        ({"name": "f", "parameters": {"if": {}}}, "keyword 'if' is not supported"),
        ({"name": "f", "parameters": arguments(x={"not": {}})}, "tool f: argument x: the schema keyword 'not'"),
        ({"name": "f", "parameters": arguments(x={"type": "array", "uniqueItems": True})}, "'uniqueItems'"),
        (
            {"name": "f", "parameters": arguments(x={"type": "array", "items": {"contains": {}}})},
            r"x\[\]: .*'contains'",
        ),
        ({"name": "f", "parameters": arguments(x=arguments(y={"format": "regex"}))}, "x.y: .*'format: regex'"),
        ({"name": "f", "parameters": arguments(x={"type": "strin"})}, "'strin' but should be one of string"),
        ({"name": "f", "parameters": arguments(x=False)}, "which no value fits"),
        ({"name": "f", "parameters": arguments(x={"$ref": "#/nowhere"})}, "names nothing"),
        ({"name": "f", "parameters": arguments(x={"type": "integer", "minimum": 5, "maximum": 4})}, "no value fits"),
        ({"name": "f", "parameters": arguments(x={"type": "string", "minLength": 5, "maxLength": 4})}, "no value fits"),
        ({"name": "f", "parameters": arguments(x={"type": "integer", "enum": ["a"]})}, "no value fits"),
        ({"name": "f", "parameters": arguments(x={"type": "string", "maxLength": "a"})}, "maxLength is 'a'"),
        ({"name": "f", "parameters": arguments(x={"minimum": "a"})}, "minimum is 'a'"),
        ({"name": "f", "parameters": {"properties": []}, "x": 1}, None),
        ({"name": "f", "parameters": {"properties": [1]}}, "properties is"),
        ({"name": "f", "parameters": {"required": "a"}}, "required is 'a'"),
        ({"name": "f", "parameters": arguments(**{f"p{i}": True for i in range(70)})}, "has 70 properties"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(tool: Any, sentence: str | None) -> None:
    if sentence is None:
        call_list([tool], "")
        return
    with pytest.raises(RequestInvalid, match=sentence):
        call_list([tool], "")


def test_overlapping_options_are_refused(grammars: Grammars) -> None:
    tool = {"name": "f", "parameters": arguments(x={"oneOf": [{"type": "integer"}, {"type": "number"}]})}
    with pytest.raises(RequestInvalid, match="'oneOf' is not supported where its options overlap"):
        grammars.lark(call_list([tool], "<[11]>"))


def test_the_same_schema_is_the_same_grammar() -> None:
    """Not in the order of a set, which is another one in each process."""
    bounds = {"multipleOf": 3, "minimum": 6, "exclusiveMaximum": 60, "maximum": 50, "exclusiveMinimum": 2}
    shape = {"maxLength": 9, "pattern": "^a+$", "minLength": 2, "format": "date"}
    schema = arguments(x={"type": "integer"} | bounds, y={"type": "string"} | shape)
    grammar = call_list([{"name": "f", "parameters": schema}], "<[11]>")
    for keywords in (bounds, shape):
        places = [grammar.index(f'"{keyword}": ') for keyword in keywords]
        assert places == sorted(places)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_grammar_allows_is_read_back_and_fits(seed: int, grammars: Grammars) -> None:
    """Any allowed token at each place, as a model that knows nothing might choose; forced ones taken at once."""
    tools = Draw(10_000 + seed).tools()
    matcher, chosen, ids = grammars.lark(call_list(tools, f"<[{END}]>")), random.Random(seed), list[int]()
    while not matcher.complete:
        tokens = matcher.forced() or [int(chosen.choice(np.flatnonzero(allowed(matcher.mask()))))]
        for token in tokens:
            matcher.accept(token)
        ids += tokens
        assert len(ids) < 5000
    text = grammars.tokenizer.decode(ids, skip_special=False).removesuffix("<|tool_call_end|>")
    schemas = {tool.get("function", tool)["name"]: tool.get("function", tool).get("parameters", {}) for tool in tools}
    for name, found in parse_calls(text):
        jsonschema.Draft202012Validator(schemas[name]).validate(found)
