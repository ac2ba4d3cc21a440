"""A reply's events do not depend on its pieces; nothing of it is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.events import Event, Text, Thinking, ToolCall
from headrace.text.calls import CALL_END, CALL_START, ReplyParser


def read(pieces: list[str], thinking: bool = False) -> list[Event]:
    """All events, neighbouring pieces of text and of thinking joined."""
    parser = ReplyParser(thinking)
    events: list[Event] = []
    for event in [event for piece in pieces for event in parser.feed(piece)] + parser.finish():
        match events[-1:], event:
            case [Text(before)], Text(text):
                events[-1] = Text(before + text)
            case [Thinking(before)], Thinking(text):
                events[-1] = Thinking(before + text)
            case _:
                events.append(event)
    return events


def call(number: int, name: str, **arguments: Any) -> ToolCall:
    return ToolCall(f"call_{number}", name, arguments)


CASES: list[tuple[str, list[Event]]] = [
    ("", []),
    ("Hello, <b>you</b>", [Text("Hello, <b>you</b>")]),
    ("  hi \n", [Text("  hi \n")]),
    ("<think>a\nb</think>\n\nc", [Thinking("a\nb"), Text("c")]),
    ("\n<think></think>c", [Text("c")]),
    ("<think>cut", [Thinking("cut")]),
    ("x <think>a</think>", [Text("x <think>a</think>")]),
    ("<think>[f()]" + CALL_START + "</think>x", [Thinking("[f()]" + CALL_START), Text("x")]),
    (f'{CALL_START}[f(a="x")]{CALL_END}Checking.', [call(0, "f", a="x"), Text("Checking.")]),
    (f"Now: {CALL_START}[f(), g(n=1)]{CALL_END}", [Text("Now: "), call(0, "f"), call(1, "g", n=1)]),
    (
        f"{CALL_START}[f()]{CALL_END} and {CALL_START}g(){CALL_END}",
        [call(0, "f"), Text(" and "), call(1, "g")],
    ),
    (f"<think>t</think>\n{CALL_START}[f()]{CALL_END}", [Thinking("t"), call(0, "f")]),
    (f"a{CALL_START}[f(1]{CALL_END}b", [Text("a[f(1]b")]),
    (f"a{CALL_START}[f({CALL_START}[g()]{CALL_END}b", [Text("a[f([g()]b")]),
    (f"a{CALL_START}{CALL_END}b", [Text("ab")]),
    (f"a{CALL_END}b", [Text("ab")]),
    (f"a{CALL_START}[f(x='cut", [Text("a[f(x='cut")]),
    (f"{CALL_START}[f()]", [call(0, "f")]),
    ("a<|tool_call_", [Text("a<|tool_call_")]),
    (f'{CALL_START}[f(a="[g(), (\\"}}\\n")]{CALL_END}', [call(0, "f", a='[g(), ("}\n')]),
]


@pytest.mark.parametrize(("reply", "events"), CASES)
def test_replies(reply: str, events: list[Event]) -> None:
    assert read([reply]) == events
    assert read(list(reply)) == events


PIECES = st.sampled_from(
    ["<think>", "</think>", CALL_START, CALL_END, "[f(a='b')]", "g()", "f(", "x", " ", "\n", "<", "<|tool_", "</thi"]
)


@given(reply=st.lists(PIECES, max_size=10).map("".join), thinking=st.booleans(), data=st.data())
@settings(max_examples=400)
def test_events_do_not_depend_on_the_pieces(reply: str, thinking: bool, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    pieces = [reply[start:end] for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert read(pieces, thinking) == read([reply], thinking)


@given(text=st.text(alphabet="ab<|>/_ toolcarhinks\n", max_size=40))
def test_text_without_marks_comes_back_as_it_was(text: str) -> None:
    assert read(list(text)) == ([Text(text)] if text else [])


def test_text_is_not_held_longer_than_needed() -> None:
    parser = ReplyParser()
    assert parser.feed("Hi") == [Text("Hi")]
    assert parser.feed(" <|tool") == [Text(" ")]
    assert parser.feed("box|>") == [Text("<|toolbox|>")]
    assert parser.feed(CALL_START + "[f()]") == []
    assert parser.feed(CALL_END) == [call(0, "f")]


def test_the_prompt_may_have_begun_the_thinking() -> None:
    assert read(["a</thi", "nk> b"], thinking=True) == [Thinking("a"), Text("b")]
    assert read(["a"], thinking=True) == [Thinking("a")]
