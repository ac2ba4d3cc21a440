"""A reply's events do not depend on its pieces; nothing of it is lost."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.events import Event, Text, Thinking, ToolCall, ToolCallDelta
from headrace.text.calls import CALL_END, CALL_START, ReplyParser
from headrace.text.offered import Offered
from headrace.text.stream import TextStream
from headrace.text.tokenizer import Tokenizer


def read(pieces: list[str], thinking: bool = False, offered: Offered | None = None) -> list[Event]:
    """All events, neighbouring pieces of text and of thinking joined."""
    parser = ReplyParser(thinking, offered, deltas=True)
    told = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
    return joined([event for event in told if not isinstance(event, ToolCallDelta)])


def joined(told: list[Event]) -> list[Event]:
    events: list[Event] = []
    for event in told:
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
    (f"a{CALL_START}[f({CALL_START}[g()]{CALL_END}b", [Text("a[f("), call(1, "g"), Text("b")]),
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
    ["<think>", "</think>", CALL_START, CALL_END, "[f(a='b')]", "[f(a=1, b=[2, {'k': 'é'}]), g()]",
     "[f(a='x 'y', b='z')]", '{"name": "f", "arguments": {"a": 1}}', "**{'a-b': 1}", "g()", "f(", "f", "x", " ", "\n",
     "<", "<|tool_", "</thi", "<|im_end|>", "<|im_", "end|>", "[", "]", "(", ")", "'", '"', "'''", "\\", ",", "a=",
     "=", "`", "```", "True", "1.", "é"]
)  # fmt: skip
OFFERED = st.sampled_from([None, {}, {"f": None, "g": None}, {"f": {"properties": {"a": {}, "b": {}}}}])


@given(reply=st.lists(PIECES, max_size=12).map("".join), thinking=st.booleans(), offered=OFFERED, data=st.data())
@settings(max_examples=1000)
def test_events_do_not_depend_on_the_pieces(
    reply: str, thinking: bool, offered: Offered | None, data: st.DataObject
) -> None:
    """Nor do the arguments that are told while they are written, which are the calls' in the end."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    found = []
    for pieces in (
        [reply],
        [*reply],
        [reply[start:end] for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True)],
    ):
        parser = ReplyParser(thinking, offered, deltas=True)
        told = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        found.append((joined(told), parser.warnings))
    assert found[0] == found[1] == found[2]
    for event in found[0][0]:
        if isinstance(event, ToolCall):
            deltas = [one.arguments for one in found[0][0] if isinstance(one, ToolCallDelta) and one.id == event.id]
            assert "".join(deltas) == json.dumps(event.arguments, ensure_ascii=False)


@given(reply=st.lists(PIECES, max_size=12).map("".join), offered=OFFERED)
@settings(max_examples=300)
def test_without_deltas_the_rest_is_the_same(reply: str, offered: Offered | None) -> None:
    parser = ReplyParser(offered=offered)
    events = joined(parser.feed(reply) + parser.finish())
    assert not any(isinstance(event, ToolCallDelta) for event in events)
    with_deltas = [replace(one, id="") if isinstance(one, ToolCall) else one for one in read([reply], offered=offered)]
    assert [replace(one, id="") if isinstance(one, ToolCall) else one for one in events] == joined(with_deltas)


@given(reply=st.lists(PIECES, max_size=8).map("".join))
@settings(max_examples=100)
def test_tokens_may_end_within_a_character(reply: str, from_gguf: Tokenizer) -> None:
    """Sentinels are special tokens; the rest comes as it is merged, or byte by byte."""
    bytes_ = {from_gguf.token_bytes(token): token for token in range(501, 1000)}
    sentinels = {text: from_gguf.special[text] for text in (CALL_START, CALL_END)}
    for by_bytes in (True, False):
        stream, parser = TextStream(from_gguf, keep=sentinels.values()), ReplyParser()
        events: list[Event] = []
        for part in re.split(f"({'|'.join(map(re.escape, sentinels))})", reply):
            plain = (
                [bytes_[bytes([byte])] for byte in part.encode()]
                if by_bytes
                else from_gguf.encode_guarded(part.replace("<|", "<\ufdd0|"), "\ufdd0")
            )
            for token in [sentinels[part]] if part in sentinels else plain:
                events += parser.feed(stream.push(token))
        events += parser.feed(stream.finish()) + parser.finish()
        assert joined(events) == read([reply])


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


def test_prose_waits_only_where_a_list_may_begin() -> None:
    parser = ReplyParser(offered={"f": None})
    assert parser.feed("As [1] says, [f") == [Text("As [1] says, ")]
    assert parser.feed("oo]") == [Text("[foo]")]
    assert parser.feed(" [f(a=1)]") == [Text(" ")]
    assert parser.feed(" \n") == []
    assert parser.feed("!") == [Text("[f(a=1)] \n!")]
    assert parser.feed(" [f(a=1)]") + parser.finish() == [Text(" "), call(0, "f", a=1)]
    assert ReplyParser(offered={}).feed("[f(a=1)]") == [Text("[f(a=1)]")]


def test_hostile_replies_take_little_time() -> None:
    """Work is bounded: without bounds each of these would take minutes."""
    quotes = "it's a [test], (x='1'), "
    for reply in (
        "[f(" * 20_000,
        "[f(a='it's' " * 3_000,
        CALL_START * 5_000,
        "<|" * 20_000,
        f"{CALL_START}[f(a='{quotes * 300}')]{CALL_END}",
        f"{CALL_START}[{f'f(a={quotes}), ' * 300}]{CALL_END}",
        f"{CALL_START}[f(a={'[' * 50_000}",
        f'{CALL_START}[{{"name": "f", "arguments": {"[" * 50_000}',
    ):
        assert sum(isinstance(event, ToolCall) for event in read([reply], offered={"f": None})) <= 1


def test_the_prompt_may_have_begun_the_thinking() -> None:
    assert read(["a</thi", "nk> b"], thinking=True) == [Thinking("a"), Text("b")]
    assert read(["a"], thinking=True) == [Thinking("a")]
