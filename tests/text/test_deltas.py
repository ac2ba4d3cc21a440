"""Arguments as JSON while they are written: each piece once, and none that is taken back."""

from __future__ import annotations

import pytest

from headrace.events import ToolCall, ToolCallDelta
from headrace.text.calls import CALL_END, CALL_START, ReplyParser


def told(text: str) -> str:
    """What is known of the first call before it is closed."""
    events = ReplyParser(deltas=True).feed(CALL_START + text)
    assert all(isinstance(event, ToolCallDelta) and event.id == "call_0" for event in events)
    return "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("[f", ""),
        ("[f(", "{"),
        ("[f(arg1", "{"),
        ("[f(arg1=", '{"arg1": '),
        ("[f(arg1=1", '{"arg1": '),
        ("[f(arg1=1, ", '{"arg1": '),
        ("[f(arg1=1, b=", '{"arg1": 1, "b": '),
        ("[f(a='x', b='y z", '{"a": "x", "b": '),
        ("[f(a='it'", '{"a": '),  # the string may go on: it's
        ("[f(a='it's', b=", '{"a": '),
        ("[f(a=1)", '{"a": '),
        ("[f(a=1),", '{"a": 1}'),
        ("[f(a=1)]", '{"a": 1}'),
        ("[f()]", "{}"),
        ("[f(a=1, **{'b-c': True, 'd': []}", '{"a": 1'),
        ("[f(a=1, **{'b-c': True, 'd': []})]", '{"a": 1, "b-c": true, "d": []}'),
        ("[f(1, b=2", "{"),  # which parameter it is, the schema says in the end
        ('[{"name": "f", "arguments": {"a": 1}}', ""),
        ("[f, g(a=1)]", ""),
    ],
)
def test_what_is_known_in_the_middle(text: str, known: str) -> None:
    assert told(text) == known


def test_a_whole_block() -> None:
    parser = ReplyParser(deltas=True)
    assert parser.feed(CALL_START + "[f(a=1, b='x')") == [
        ToolCallDelta("call_0", "f", "{"),
        ToolCallDelta("call_0", "f", '"a": '),
        ToolCallDelta("call_0", "f", "1"),
        ToolCallDelta("call_0", "f", ', "b": '),
    ]
    assert parser.feed(", g()]" + CALL_END) == [
        ToolCallDelta("call_0", "f", '"x"'),
        ToolCallDelta("call_0", "f", "}"),
        ToolCallDelta("call_1", "g", "{"),
        ToolCallDelta("call_1", "g", "}"),
        ToolCall("call_0", "f", {"a": 1, "b": "x"}),
        ToolCall("call_1", "g", {}),
    ]


def test_a_reading_that_changes_in_the_end_has_another_id() -> None:
    """`g` is told before the end shows that the list is none."""
    parser = ReplyParser(deltas=True)
    events = parser.feed(f"{CALL_START}[f(a=1)], g(b=2){CALL_END}")
    for event in events:
        if isinstance(event, ToolCall):
            deltas = [one.arguments for one in events if isinstance(one, ToolCallDelta) and one.id == event.id]
            assert "".join(deltas) == {"f": '{"a": 1}', "g": '{"b": 2}'}[event.name]
