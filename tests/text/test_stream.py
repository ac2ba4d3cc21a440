"""Pieces of text do not depend on where tokens end, and never hold half a character or a stop string."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import RequestInvalid
from headrace.text.stream import TextStream, overlap
from headrace.text.tokenizer import Tokenizer

Spell = Callable[[str], list[int]]


def run(stream: TextStream, ids: list[int]) -> tuple[list[str], str]:
    pieces = [stream.push(token) for token in ids]
    return pieces, "".join(pieces) + stream.finish()


@pytest.fixture(scope="module")
def spell(from_gguf: Tokenizer) -> Spell:
    """Spells a text with one token for each byte."""
    token_of = {from_gguf.token_bytes(token): token for token in range(501, 800)}
    return lambda text: [token_of[bytes([byte])] for byte in text.encode()]


def test_whole_characters_only(from_gguf: Tokenizer, spell: Spell) -> None:
    pieces, text = run(TextStream(from_gguf), spell("aé日😀!"))
    assert pieces == ["a", "", "é", "", "", "日", "", "", "", "😀", "!"]
    assert text == "aé日😀!"


IDS = st.lists(st.one_of(st.integers(0, 64_399), st.integers(501, 760), st.integers(0, 13)), max_size=20)
STOPS = st.lists(st.text(alphabet="ab \n<", min_size=1, max_size=4), max_size=3)


@given(ids=IDS)
@settings(max_examples=300)
def test_the_text_is_the_decoders(ids: list[int], from_gguf: Tokenizer) -> None:
    assert run(TextStream(from_gguf), ids)[1] == from_gguf.decode(ids)
    kept = TextStream(from_gguf, keep=from_gguf.special_ids)
    assert run(kept, ids)[1] == from_gguf.decode(ids, skip_special=False)


def test_bytes_that_are_no_utf8_become_replacement_characters(from_gguf: Tokenizer, spell: Spell) -> None:
    tokens = spell("é日")
    for ids in (tokens[1:], [*tokens[:3], tokens[0]], tokens[:-1], [tokens[0], 7, tokens[1]], tokens[:1]):
        assert run(TextStream(from_gguf), ids)[1] == from_gguf.decode(ids)
    assert run(TextStream(from_gguf), tokens[:-1])[1] == "é\ufffd"


def cut(text: str, stops: list[str]) -> str:
    """What is left of `text`, read a character at a time until it ends in a stop string; then the longest goes."""
    for end in range(1, len(text) + 1):
        if found := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, found))]
    return text


@given(text=st.text(alphabet="ab \n<é😀", max_size=24), stops=STOPS, data=st.data())
@settings(max_examples=300)
def test_any_tokens_of_a_text_give_the_same_visible_text(
    text: str, stops: list[str], data: st.DataObject, from_gguf: Tokenizer, spell: Spell
) -> None:
    ids, rest = [], text
    while rest:  # some characters as the tokenizer has it, some byte by byte
        part, rest = rest[: (size := data.draw(st.integers(1, 6)))], rest[size:]
        ids += from_gguf.encode(part) if data.draw(st.booleans()) else spell(part)
    stream = TextStream(from_gguf, stops)
    pieces, visible = run(stream, ids)
    assert visible == cut(text, stops)
    assert stream.stopped == (visible != text or any(text.endswith(stop) for stop in stops))
    for end in range(1, len(ids) + 1):
        shown, so_far = "".join(pieces[:end]), from_gguf.decode(ids[:end]).rstrip("\ufffd")
        if not any(stop in so_far for stop in stops):  # all is visible that cannot be the beginning of a stop string
            assert shown == so_far[: len(so_far) - overlap(so_far, stops)]


def test_a_stop_string_spans_tokens_and_cuts_before_it(from_gguf: Tokenizer, spell: Spell) -> None:
    stream = TextStream(from_gguf, ["\nUser:"])
    pieces = [stream.push(token) for token in spell("hi\nUs\nUser: x")]
    assert pieces == ["h", "i", "", "", "", "\nUs", *[""] * 7]
    assert stream.stopped
    assert stream.finish() == ""
    assert stream.push(from_gguf.encode("more")[0]) == ""


def test_what_was_held_comes_at_the_end(from_gguf: Tokenizer, spell: Spell) -> None:
    stream = TextStream(from_gguf, ["END"])
    assert run(stream, spell("the EN")) == (["t", "h", "e", " ", "", ""], "the EN")
    assert not stream.stopped


def test_the_stop_string_that_is_complete_first_wins(from_gguf: Tokenizer, spell: Spell) -> None:
    for ids in (from_gguf.encode("xabcd"), spell("xabcd")):
        assert run(TextStream(from_gguf, ["abcd", "bc"]), ids)[1] == "xa"
        assert run(TextStream(from_gguf, ["bc", "abc"]), ids)[1] == "x"


def test_special_tokens_are_hidden_unless_kept(from_gguf: Tokenizer) -> None:
    ids = from_gguf.encode("a<|tool_call_start|>b<|im_end|>")
    assert run(TextStream(from_gguf), ids)[1] == "ab"
    assert run(TextStream(from_gguf, keep={10}), ids)[1] == "a<|tool_call_start|>b"
    assert run(TextStream(from_gguf, ["l_start|>b"], keep={10}), ids)[1] == "a<|tool_cal"


def test_a_special_token_can_be_a_stop_string(from_gguf: Tokenizer) -> None:
    stream = TextStream(from_gguf, ["<|im_end|>", "ab"])
    assert run(stream, [*from_gguf.encode("x"), *from_gguf.encode("a<|im_end|>b")]) == (["x", "", "a", ""], "xa")
    assert stream.stopped


def test_padding_rows_have_no_text(from_gguf: Tokenizer) -> None:
    assert run(TextStream(from_gguf), [6928, 64_400, 65_535])[1] == "hi"


@pytest.mark.parametrize("stops", ["abc", [""], ["a", ""], [1]])
def test_stops_of_the_wrong_shape(stops: object, from_gguf: Tokenizer) -> None:
    with pytest.raises(RequestInvalid, match="expected a list of strings"):
        TextStream(from_gguf, stops)  # type: ignore[arg-type]


def test_overlap() -> None:
    assert overlap("xab", ["abc"]) == 2
    assert overlap("abc", ["abc"]) == 0
    assert overlap("xab", ["ab", "wxyz"]) == 0
    assert overlap("aab", ["aabb", "abc"]) == 3
    assert overlap("x", ["abc"]) == 0
    assert overlap("", ["a"]) == 0
    assert overlap("a", []) == 0
