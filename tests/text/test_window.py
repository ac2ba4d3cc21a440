"""What a chat loses so that it fits: by a tokenizer whose tokens are characters, each the number of its message."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RequestInvalid
from headrace.events import Dropped
from headrace.text import window
from headrace.text.window import Window

SYSTEM = ("system", "developer")
ROLES = ("user", "user", "assistant", "tool", *SYSTEM)
Message = Mapping[str, Any]


class Encoder:
    """A token for each character of a message and one for its frame; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[Message]] = []

    def __call__(self, messages: Sequence[Message]) -> list[int]:
        self.asked.append(messages)
        return [m["number"] for m in messages for _ in range(1 + len(text_of(m)))]


def text_of(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def cut(text: str, tokens: int) -> str:
    return text[tokens:]


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content, "number": i} for i, (role, content) in enumerate(turns)]


chats = st.lists(st.tuples(st.sampled_from(ROLES), st.text("abc", max_size=12)), min_size=1, max_size=24).map(
    lambda turns: chat(*turns)
)
windows = st.builds(Window.of, st.integers(2, 160) | st.integers(8, 40), st.integers(-1, 200) | st.just(-1))


def turns_of(messages: Sequence[Message]) -> list[list[int]]:
    """The numbers of what is spoken, a list for each turn."""
    turns: list[list[int]] = []
    for message in messages:
        if message["role"] in SYSTEM:
            continue
        if not turns or message["role"] == "user":
            turns.append([])
        turns[-1].append(message["number"])
    return turns or [[]]


@given(chats, windows)
def test_the_most_turns_that_leave_room(messages: list[dict[str, Any]], some: Window) -> None:
    encode = Encoder()
    prompt, dropped = window.shift(messages, encode, some)
    kept, turns, whole = list(dict.fromkeys(prompt)), turns_of(messages), Encoder()(messages)
    always = [m["number"] for m in messages if m["role"] in SYSTEM]

    def of_last(count: int) -> list[int]:
        return sorted([*always, *(number for turn in turns[len(turns) - count :] for number in turn)])

    count = next(
        n for n in range(1, len(turns) + 1) if kept == of_last(n)
    )  # whole turns, in order, the last among them
    assert len(prompt) <= some.limit or count == 1
    if count < len(turns):
        more = of_last(count + 1)
        assert len(Encoder()([messages[number] for number in more])) > some.limit
    lost = (len(messages) - len(kept), len(whole) - len(prompt))
    assert dropped == (Dropped(*lost) if any(lost) else None)
    assert len(encode.asked) <= math.log2(len(turns)) + 3


@given(chats, windows)
def test_truncate_is_shift_where_turns_suffice(messages: list[dict[str, Any]], some: Window) -> None:
    shifted = window.shift(messages, Encoder(), some)
    if len(shifted[0]) <= some.limit:
        assert window.truncate(messages, Encoder(), cut, some) == shifted


@given(
    chats,
    windows,
    st.sampled_from([cut, lambda text, tokens: text[max(1, tokens // 2) :], lambda text, _: text]),
)
def test_truncate_always_fits_where_anything_can(messages: list[dict[str, Any]], some: Window, cut: Any) -> None:
    """Whatever a cut is worth in tokens: a tokenizer may find others in what is left."""
    encode = Encoder()
    prompt, dropped = window.truncate(messages, encode, cut, some)
    last = [m for m in messages if m["role"] in SYSTEM or m["number"] in turns_of(messages)[-1]]
    bare = len(last) + sum(len(text_of(m)) for m in last if m["role"] in SYSTEM)
    free = some.num_ctx - bare
    if free < 2:  # nothing that may be cut is long enough
        assert prompt == window.shift(messages, Encoder(), some)[0]
        return
    assert len(prompt) <= some.num_ctx - max(1, min(some.room, free // 2))
    given_ = next(asked for asked in encode.asked if Encoder()(asked) == prompt)
    for message in given_:
        before = messages[message["number"]]
        assert message | {"content": ""} == before | {"content": ""}
        assert before["content"].endswith(message["content"])
        assert message == before or message["role"] not in SYSTEM
    whole = len(Encoder()(messages))
    assert dropped == (Dropped(len(messages) - len(given_), whole - len(prompt)) if whole > len(prompt) else None)


def test_a_cut_that_cuts_nothing_comes_to_an_end() -> None:
    """As of a token that is no character, perhaps."""
    messages = chat(("user", "q" * 50))
    prompt, dropped = window.truncate(messages, Encoder(), lambda text, _: text, Window(30, 10))
    assert (len(prompt), dropped) == (20, Dropped(0, 31))


def test_a_result_never_loses_its_call() -> None:
    messages = chat(
        ("system", "s"),
        ("user", "a" * 10),
        ("assistant", "call"),
        ("tool", "r"),
        ("assistant", "b" * 10),
        ("user", "c"),
    )
    prompt, dropped = window.shift(messages, Encoder(), Window(32, 4))
    assert (set(prompt), dropped) == ({0, 5}, Dropped(4, 29))
    assert window.shift(messages, Encoder(), Window(40, 4)) == (Encoder()(messages), None)


def test_the_longest_text_is_cut_first_and_the_question_stays() -> None:
    parts = [{"type": "text", "text": "r" * 40}, {"type": "image", "url": "u"}, {"type": "text", "text": "end"}]
    messages = chat(("system", "s" * 9), ("user", "question"), ("assistant", ""), ("tool", parts))
    encode = Encoder()
    prompt, dropped = window.truncate(messages, encode, cut, Window(48, 12))
    assert (len(prompt), dropped) == (36, Dropped(0, 28))
    *before, last = encode.asked[-1]
    assert before == messages[:3]
    assert last["content"] == [{"type": "text", "text": "r" * 12}, *parts[1:]]


def test_tools_take_the_room_from_the_reply_and_not_from_the_question() -> None:
    messages = chat(("system", "t" * 39), ("user", "q" * 80))
    assert window.truncate(messages, Encoder(), cut, Window.of(128, -1)) == (Encoder()(messages)[:96], Dropped(0, 25))
    messages = chat(("system", "t" * 79), ("user", "q" * 30))
    assert window.truncate(messages, Encoder(), cut, Window.of(128, -1)) == (Encoder()(messages)[:105], Dropped(0, 6))
    messages = chat(("system", "t" * 99), ("user", "q" * 13))
    assert window.truncate(messages, Encoder(), cut, Window.of(128, -1)) == (Encoder()(messages), None)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 1), windows)
def test_a_text_keeps_its_beginning_token_and_its_end(ids: list[int], head: int, some: Window) -> None:
    prompt, dropped = window.end_of(ids, head, some)
    if len(ids) <= some.limit:
        assert (prompt, dropped) == (ids, None)
    elif some.limit > head:
        assert len(prompt) == some.limit
        assert prompt == ids[:head] + ids[len(ids) - some.limit + head :]
        assert dropped == Dropped(0, len(ids) - some.limit)


@pytest.mark.parametrize(
    ("num_ctx", "num_predict", "room"),
    [(4096, -1, 1024), (4096, 100, 100), (4096, 0, 1), (4096, 4000, 2048), (3, -1, 1), (2, 9, 1)],
)
def test_the_room_for_a_reply(num_ctx: int, num_predict: int, room: int) -> None:
    assert Window.of(num_ctx, num_predict) == Window(num_ctx, room)


@pytest.mark.parametrize("policy", ["rotate", "", None, True, ["shift"]])
def test_other_policies_are_refused(policy: object) -> None:
    with pytest.raises(RequestInvalid, match="should be one of error, shift, truncate"):
        window.checked(policy)
