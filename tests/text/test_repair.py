"""Earlier calls stand in the text of their turns, as the model writes them, whatever the template does with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import RequestInvalid
from headrace.text.calls import CALL_END, CALL_START
from headrace.text.repair import write_calls
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25, Template

BLOCK = f'{CALL_START}[f(a="x", n=1), g()]{CALL_END}'


def turn(content: Any = "Let me see.", arguments: Any = None) -> dict[str, Any]:
    calls = [{"id": "1", "function": {"name": "f", "arguments": arguments or {"a": "x", "n": 1}}}, {"name": "g"}]
    return {"role": "assistant", "content": content, "tool_calls": calls}


@pytest.mark.parametrize(
    ("template", "content"), [(FALLBACK_LFM2, BLOCK + "Let me see."), (FALLBACK_LFM25, "Let me see." + BLOCK)]
)
def test_the_dialect_says_where_the_calls_stand(template: str, content: str) -> None:
    assert write_calls([turn()], Template(template)) == [{"role": "assistant", "content": content}]


@pytest.mark.parametrize("content", [None, ""])
def test_a_turn_of_calls_alone(content: Any) -> None:
    assert write_calls([turn(content)], Template(FALLBACK_LFM2))[0]["content"] == BLOCK


def test_arguments_may_be_json_text() -> None:
    assert write_calls([turn("", '{"a": "x", "n": 1}')], Template(FALLBACK_LFM2))[0]["content"] == BLOCK


@pytest.mark.parametrize("arguments", ["", " ", "{}", None, {}])
def test_no_arguments_in_any_form(arguments: Any) -> None:
    chat = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]
    assert write_calls(chat, Template(FALLBACK_LFM2))[0]["content"] == f"{CALL_START}[f()]{CALL_END}"


def test_content_parts_keep_their_side_of_the_calls() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert write_calls([turn(parts)], Template(FALLBACK_LFM2))[0]["content"] == BLOCK + "ab"
    image = [{"type": "image"}, {"type": "text", "text": "b"}]
    block = {"type": "text", "text": BLOCK}
    assert write_calls([turn(image)], Template(FALLBACK_LFM2))[0]["content"] == [block, *image]
    assert write_calls([turn(image)], Template(FALLBACK_LFM25))[0]["content"] == [*image, block]


def test_no_calls_are_no_block() -> None:
    for empty in ([], None, ()):
        chat = [{"role": "assistant", "content": "x", "tool_calls": empty}]
        assert write_calls(chat, Template(FALLBACK_LFM2)) == [{"role": "assistant", "content": "x"}]


def test_the_users_messages_are_not_changed() -> None:
    chat = [turn(), {"role": "user", "content": None}]
    before = json.dumps(chat)
    write_calls(chat, Template(FALLBACK_LFM2))
    assert json.dumps(chat) == before


@pytest.mark.parametrize("messages", [None, "hi", [5], [], ["hi"]])
def test_what_is_no_list_of_messages_is_left_to_the_template(messages: Any) -> None:
    template = Template(FALLBACK_LFM2)
    with pytest.raises(RequestInvalid, match=r"message"):
        template.render(write_calls(messages, template))


def test_other_turns_stay_as_they_are() -> None:
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "tool", "content": "1"},
    ]
    assert write_calls(turns, Template(FALLBACK_LFM2)) == turns


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (turn(["parts"]), "should have text"),
        (turn({"a": 1}), "should have text"),
        (turn("", {"a": float("nan")}), "arguments of the tool call 'f' should be a JSON object"),
        (turn("", '{"a": NaN}'), "arguments of the tool call 'f' should be a JSON object"),
        (turn("", {1: 2}), "arguments of the tool call 'f' should be a JSON object"),
        (turn("", "[" * 100_000), "arguments of the tool call 'f' should be a JSON object"),
        ({"role": "assistant", "tool_calls": [{"name": "f(), g", "arguments": {}}]}, "has the name 'f\\(\\), g'"),
        (turn("", "{"), "arguments of the tool call 'f' should be a JSON object"),
        (turn("", "[1]"), "arguments of the tool call 'f' should be a JSON object"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "a tool call should look like"),
    ],
)
def test_what_is_no_call_is_a_sentence(message: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        write_calls([message], Template(FALLBACK_LFM2))
