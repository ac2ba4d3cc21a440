"""Grammars on the genuine tokenizer: what a format allows, which tokens it masks, and what it forces."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from headrace.errors import RequestInvalid
from headrace.text.grammar import Grammars, Matcher, answer_grammar
from headrace.text.tokenizer import Tokenizer

ROWS = 65_536
END = 7


@pytest.fixture(scope="module")
def grammars(from_json: Tokenizer) -> Grammars:
    return Grammars(from_json, ROWS, {2, END})


def allowed(matcher: Matcher) -> Any:
    return np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")


@pytest.fixture
def allows(grammars: Grammars) -> Callable[[Any, str], bool]:
    def check(format_: Any, text: str) -> bool:
        matcher = grammars.matcher(answer_grammar(format_))
        for token in [*grammars.tokenizer.encode(text), END]:
            if not allowed(matcher)[token]:
                return False
            if token != END:
                matcher.accept(token)
        return True

    return check


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("format_", "text", "passes"),
    [
        ("json", '{"a": [1, null, "é"]}', True),
        ("json", "[]", True),
        ("json", '"text"', False),
        ("json", '{\n  "a": 1\n}', True),
        ("json", '{"a": 1', False),
        ("json", "Sure: {}", False),
        ("json", '{\n\n\n\n"a": 1}', False),  # space comes to an end
        (PERSON, '{"name": "Bob", "age": 4}', True),
        (PERSON, '{"name": "Bob"}', True),
        (PERSON, '{"age": 4}', False),
        (PERSON, '{"name": "Bob", "age": -4}', False),
        ({"type": "string", "format": "password"}, '"x"', True),  # JSON Schema knows no such format: a remark
        ({"regex": "[a-c]{2}-[0-9]+"}, "ab-12", True),
        ({"regex": "[a-c]{2}-[0-9]+"}, "ab-", False),
        ({"choices": ["yes", "yes, but", 'say "no"\n']}, "yes", True),
        ({"choices": ["yes", "yes, but", 'say "no"\n']}, "yes, but", True),
        ({"choices": ["yes", "yes, but", 'say "no"\n']}, 'say "no"\n', True),
        ({"choices": ["yes", "yes, but", 'say "no"\n']}, "yes,", False),
        ({"lark": 'start: "x" NUMBER\nNUMBER: /[0-9]{3}/'}, "x123", True),
        ({"lark": 'start: "x" NUMBER\nNUMBER: /[0-9]{3}/'}, "x12", False),
        ({"gbnf": 'root ::= "a" item{2}\nitem ::= [0-9] | "-"'}, "a1-", True),
        ({"gbnf": 'root ::= "a" item{2}\nitem ::= [0-9] | "-"'}, "a1", False),
    ],
)
def test_what_an_answer_may_be(format_: Any, text: str, passes: bool, allows: Callable[[Any, str], bool]) -> None:
    assert allows(format_, text) == passes


@pytest.mark.parametrize(
    ("format_", "sentence"),
    [
        ("xml", "format is 'xml' but should be \"json\", a JSON schema, or"),
        (5, "format is '5'"),
        ({"regex": "("}, "unclosed group"),
        ({"regex": 5}, "the regex is a int but should be text"),
        ({"lark": "nonsense"}, "Expected token ':'"),
        ({"gbnf": "root = "}, "the gbnf grammar cannot be read"),
        ({"gbnf": "x" * 2_000_000}, "at most 1000000 are read"),
        ({"choices": []}, "choices should be a list of texts"),
        ({"choices": ["a", 1]}, "choices should be a list of texts"),
        ({"not": {}}, "keyword 'not' is not supported"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "keyword 'uniqueItems' is not supported"),
        ({"type": "string", "format": "regex"}, "keyword 'format: regex' is not supported"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"const": {1}}, "format is no JSON schema"),
        ({"choise": ["a"]}, 'format is .* but should be "json", a JSON schema, or'),
    ],
)
def test_what_is_no_format_says_why(format_: Any, sentence: str, grammars: Grammars) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        grammars.matcher(answer_grammar(format_))


def test_rows_without_a_token_and_special_tokens_are_never_text(grammars: Grammars) -> None:
    """1,136 rows of the embedding have no token: they are masked where anything goes, too."""
    bits = allowed(grammars.matcher(answer_grammar({"regex": "(?s:.*)"})))
    assert not bits[grammars.tokenizer.vocab_size :].any()
    assert set(np.flatnonzero(bits)) & grammars.tokenizer.special_ids == {2, END}
    assert bits.sum() > 60_000


def test_a_constant_that_looks_like_a_special_token_is_spelled(grammars: Grammars) -> None:
    matcher, ids = grammars.matcher(answer_grammar({"const": "<|im_end|>"})), list[int]()
    while not matcher.complete:
        token = int(np.flatnonzero(allowed(matcher))[0])
        matcher.accept(token)
        ids.append(token)
    assert END not in ids
    assert json.loads(grammars.tokenizer.decode(ids, skip_special=False)) == "<|im_end|>"


@pytest.mark.parametrize("format_", [{"regex": "once upon a time [0-9]"}, {"choices": ["a rather long sentence."]}])
def test_what_is_forced_is_what_the_masks_would_leave(format_: Mapping[str, Any], grammars: Grammars) -> None:
    """Taken at once or token by token, the same tokens come: fast-forward changes nothing but the time."""
    first, second = (grammars.matcher(answer_grammar(format_)) for _ in range(2))
    forced = first.forced()
    assert forced
    for token in forced:
        assert np.flatnonzero(allowed(second)).tolist() == [token]
        second.accept(token)


def test_text_is_written_as_the_tokenizer_writes_it(grammars: Grammars) -> None:
    text = "a rather long sentence about pythonic things."
    assert grammars.matcher(answer_grammar({"choices": [text]})).forced() == grammars.tokenizer.encode(text)


def test_an_unexpected_token_is_an_error_not_a_crash(grammars: Grammars) -> None:
    matcher = grammars.matcher(answer_grammar({"choices": ["a"]}))
    with pytest.raises(RequestInvalid, match="the grammar cannot be used"):
        matcher.accept(grammars.tokenizer.encode("b")[0])


def test_a_matcher_begins_again(grammars: Grammars) -> None:
    matcher = grammars.matcher(answer_grammar({"choices": ["ab"]}))
    before = matcher.mask().tobytes()
    matcher.accept(grammars.tokenizer.encode("a")[0])
    matcher.reset()
    assert matcher.mask().tobytes() == before
