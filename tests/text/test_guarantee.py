"""The guarantee: a model that knows nothing calls tools of any schema, and every call parses and fits.

Random weights over the genuine vocabulary are the hardest case: nothing but the grammar leads to a call.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import headrace
from headrace import Done, Text, ToolCall
from tests import random_models
from tests.text.random_tools import Draw

SIZES: dict[str, Any] = {
    "vocab_size": 65_536,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "layer_types": ["conv", "full_attention"],
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 4096,
}


@pytest.fixture(scope="module")
def model(lfm2_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[headrace.Model]:
    folder = random_models.save(random_models.dense(**SIZES), tmp_path_factory.mktemp("random"))
    shutil.copy(lfm2_json, folder)
    with headrace.load(folder) as loaded:
        yield loaded


def ask(model: headrace.Model, **options: Any) -> tuple[list[Any], Done]:
    sampling = {"temperature": 1.0, "repeat_penalty": 1.0, "min_p": 0.0}
    *events, done = model.chat([{"role": "user", "content": "Go on."}], **(sampling | options))
    assert isinstance(done, Done)
    return events, done


def check(model: headrace.Model, seed: int) -> int:
    """One random tool list; how many calls were made."""
    tools = Draw(seed).tools()
    calls, done = ask(model, tools=tools, tool_choice="required", seed=seed, num_predict=3000)
    assert calls
    assert done.reason == "tool_calls"  # not cut by the limit
    assert all(isinstance(call, ToolCall) for call in calls), calls
    functions = [tool.get("function", tool) for tool in tools]
    schemas = {function["name"]: function.get("parameters", {"maxProperties": 0}) for function in functions}
    for call in calls:
        jsonschema.Draft202012Validator(schemas[call.name]).validate(call.arguments)
    return len(calls)


def test_a_hundred_tool_lists(model: headrace.Model) -> None:
    assert sum(check(model, seed) for seed in range(100)) > 100


@pytest.mark.slow
def test_a_thousand_tool_lists(model: headrace.Model) -> None:
    assert sum(check(model, seed) for seed in range(1000, 2000)) > 1000


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_fits_its_schema(seed: int, model: headrace.Model) -> None:
    import json

    events, done = ask(model, format=SCHEMA, seed=seed, num_predict=500)
    assert done.reason == "stop"
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads("".join(event.text for event in events)))


def test_fast_forward_and_neighbours_change_no_token(model: headrace.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same calls: token by token, with forced ones at once, alone or beside others."""
    asked: dict[str, Any] = {"tools": Draw(3).tools(), "tool_choice": "required", "seed": 3, "num_predict": 3000}
    events, done = ask(model, **asked)
    assert done.usage.forced_tokens > 0
    beside = model.chat([{"role": "user", "content": "x"}], tools=Draw(4).tools(), tool_choice="required", seed=4)
    next(beside)
    assert ask(model, **asked)[0] == events
    beside.close()  # type: ignore[attr-defined]
    monkeypatch.setattr("headrace.text.constraint.Constraint._next_forced", lambda _: [])
    slowly, slow = ask(model, **asked)
    assert slowly == events
    assert slow.usage.forced_tokens == 0
    assert slow.usage.completion_tokens == done.usage.completion_tokens


def test_limits_hold_inside_a_call(model: headrace.Model) -> None:
    tools = [{"name": "f", "parameters": {"properties": {"s": {"type": "string"}}, "required": ["s"]}}]
    for limit in (0, 1, 3, 9):
        _, done = ask(model, tools=tools, tool_choice="required", seed=1, num_predict=limit)
        assert done.reason == "length"
        assert done.usage.completion_tokens == limit


def test_a_stop_string_ends_forced_text_too(model: headrace.Model) -> None:
    events, done = ask(model, format={"choices": ["one two three"]}, stop=[" three"])
    assert "".join(event.text for event in events if isinstance(event, Text)) == "one two"
    assert done.reason == "stop"


def test_a_grammar_that_is_too_much_for_the_parser_fails_alone(model: headrace.Model) -> None:
    """Whoever asks for it gets the error; the others go on."""
    calm = model.chat([{"role": "user", "content": "x"}], num_predict=200, seed=1, temperature=1.0)
    next(calm)
    costly = r"start: /(a|b)*a(a|b){200}/ & ~/(?s:.*)b(a|b){150}/" "\n"
    with pytest.raises(headrace.RequestInvalid, match="the grammar cannot be used"):
        ask(model, format={"lark": f"start: T\nT: {costly.partition(': ')[2]}"}, num_predict=400, seed=2)
    *_, done = calm
    assert isinstance(done, Done)


def test_text_is_continued_by_a_grammar(model: headrace.Model) -> None:
    *pieces, _ = model.generate("The answer is ", format={"regex": "(yes|no)!"}, temperature=1.0, seed=2)
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) in ("yes!", "no!")
