"""A reply's places: where it is free, where a token is masked, and what follows of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import RequestInvalid
from headrace.text.constraint import Constraint, Constraints, Form, Place
from headrace.text.grammar import Grammars
from headrace.text.tokenizer import Tokenizer

CALL_START, CALL_END, END = 10, 11, 7
THINK, THOUGHT = 64_400, 64_401
TOOLS: list[dict[str, Any]] = [
    {"name": "now"},
    {"name": "add", "parameters": {"properties": {"n": {"type": "integer"}}, "required": ["n"]}},
]


@pytest.fixture(scope="module")
def thinker(lfm2_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """LFM2.5's vocabulary: LFM2's, with tokens for thinking."""
    state = json.loads(lfm2_json.read_text(encoding="utf-8"))
    entry = state["added_tokens"][-1]
    state["added_tokens"] += [
        entry | {"id": THINK, "content": "<think>"},
        entry | {"id": THOUGHT, "content": "</think>"},
    ]
    path = tmp_path_factory.mktemp("lfm2.5") / "tokenizer.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    return Tokenizer.from_json(path)


@pytest.fixture(scope="module")
def constraints(thinker: Tokenizer) -> Constraints:
    return Constraints(Grammars(thinker, 65_536, {2, END}))


@pytest.fixture(scope="module")
def plain(from_json: Tokenizer) -> Constraints:
    """Of a vocabulary that has no tokens for thinking."""
    return Constraints(Grammars(from_json, 65_536, {2, END}))


def allowed(constraint: Constraint) -> set[int] | None:
    mask = constraint.mask()
    return None if mask is None else set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def say(constraint: Constraint, tokenizer: Tokenizer, text: str, forced: list[int] | None = None) -> list[int]:
    """Takes the tokens of `text`, of which some are `forced` already; gives what is forced after the last."""
    forced = list(forced or ())
    for token in tokenizer.encode(text):
        if forced:
            assert token == forced.pop(0)
            continue
        may = allowed(constraint)
        assert may is None or token in may, tokenizer.decode([token], skip_special=False)
        forced = constraint.accept(token)
    return forced


def test_free_text_costs_nothing_until_a_call_begins(constraints: Constraints, thinker: Tokenizer) -> None:
    constraint = constraints.of_reply(Form(), TOOLS, False)
    assert constraint
    assert constraint.begin() == []
    say(constraint, thinker, "Let me see: now() is")
    assert allowed(constraint) is None
    forced = constraint.accept(CALL_START)
    assert allowed(constraint) is not None
    assert say(constraint, thinker, "[now()]", forced) == [CALL_END]
    assert allowed(constraint) is None
    constraint.accept(CALL_START)  # another block, by the same grammar
    assert allowed(constraint) is not None


def test_a_sentinel_inside_a_thought_begins_nothing(constraints: Constraints, thinker: Tokenizer) -> None:
    for thinking in (True, False):
        constraint = constraints.of_reply(Form(), TOOLS, thinking)
        assert constraint
        say(constraint, thinker, ("" if thinking else "\n<think>") + "I could <|tool_call_start|> hm")
        assert constraint.place is Place.THINKING
        assert allowed(constraint) is None
        say(constraint, thinker, "</think>\n<|tool_call_start|>")
        assert constraint.place is Place.CALLS


def test_required_begins_with_a_call_or_a_thought_and_ends_with_the_call(
    constraints: Constraints, thinker: Tokenizer
) -> None:
    constraint = constraints.of_reply(Form(tool_choice="required"), TOOLS, False)
    assert constraint
    assert allowed(constraint) == {CALL_START, THINK}
    constraint.accept(THINK)
    assert allowed(constraint) is None
    say(constraint, thinker, "well")
    start, *forced = constraint.accept(THOUGHT)
    assert start == CALL_START
    assert say(constraint, thinker, "[add(n=5)]", forced) == [CALL_END, END]
    assert constraint.place is Place.OVER


def test_without_thinking_a_required_call_begins_at_once(constraints: Constraints, plain: Constraints) -> None:
    for made in (constraints.of_reply(Form(tool_choice="required", think=False), TOOLS, False),
                 plain.of_reply(Form(tool_choice="required"), TOOLS, False)):  # fmt: skip
        assert made
        assert made.begin()[:1] == [CALL_START]


@pytest.mark.parametrize("choice", ["now", {"type": "function", "function": {"name": "now"}}, {"name": "now"}])
def test_a_named_tool_leaves_no_choice(choice: Any, plain: Constraints, from_json: Tokenizer) -> None:
    constraint = plain.of_reply(Form(tool_choice=choice, parallel_tool_calls=False), TOOLS, False)
    assert constraint
    forced = constraint.begin()
    assert from_json.decode(forced, skip_special=False) == "<|tool_call_start|>[now()]<|tool_call_end|><|im_end|>"


def test_none_masks_the_sentinel_and_the_rows_without_a_token(plain: Constraints, from_json: Tokenizer) -> None:
    constraint = plain.of_reply(Form(tool_choice="none"), TOOLS, False)
    assert constraint
    for _ in range(2):
        may = allowed(constraint)
        assert may == set(range(from_json.vocab_size)) - {CALL_START}
        constraint.accept(from_json.encode("hello")[0])


def test_one_call_where_parallel_ones_are_off(plain: Constraints, from_json: Tokenizer) -> None:
    constraint = plain.of_reply(Form(parallel_tool_calls=False), TOOLS, False)
    assert constraint
    assert say(constraint, from_json, "[now()]", constraint.accept(CALL_START)) == [CALL_END]
    assert CALL_START not in (allowed(constraint) or {CALL_START})


def test_a_form_allows_a_thought_first_and_calls_beside_it(constraints: Constraints, thinker: Tokenizer) -> None:
    constraint = constraints.of_reply(Form(format={"choices": ["yes", "no"]}), TOOLS, False)
    assert constraint
    may = allowed(constraint)
    assert may
    assert {THINK, CALL_START, thinker.encode("yes")[0]} <= may
    assert thinker.encode("maybe")[0] not in may
    constraint.accept(THINK)
    say(constraint, thinker, "hm")
    constraint.accept(THOUGHT)
    assert THINK not in (allowed(constraint) or {THINK})
    assert constraint.accept(thinker.encode("yes")[0]) == [END]


def test_a_form_without_tools_begins_with_what_is_forced(plain: Constraints, from_json: Tokenizer) -> None:
    constraint = plain.of_reply(Form(format={"choices": ["certainly"]}), [], False)
    assert constraint
    assert constraint.begin() == [*from_json.encode("certainly"), END]


def test_no_string_spells_a_sentinel(plain: Constraints, from_json: Tokenizer) -> None:
    """Whoever reads the text of a call sees it end at `<|tool_call_end|>`, however it was put together."""
    tools = [{"name": "f", "parameters": {"properties": {"s": {"type": "string"}}, "required": ["s"]}}]
    constraint = plain.of_reply(Form(tool_choice="required"), tools, False)
    assert constraint
    bar, both = from_json.encode("|")[0], from_json.id_of("<|")
    assert say(constraint, from_json, '<|tool_call_start|>[f(s="a ', constraint.begin()) == []
    may = allowed(constraint)
    assert may
    assert bar in may
    assert both is None or both not in may
    constraint.accept(from_json.encode("<")[0])
    may = allowed(constraint)
    assert may
    assert bar not in may
    assert from_json.encode("=")[0] in may


def test_nothing_asked_is_no_constraint(plain: Constraints) -> None:
    assert plain.of_reply(Form(), [], False) is None
    assert plain.of_reply(Form(constrain=False), TOOLS, False) is None
    assert plain.of_reply(Form(think=False), [], False) is None
    assert plain.of_text(None) is None


def test_thinking_is_forbidden_by_a_mask(constraints: Constraints) -> None:
    constraint = constraints.of_reply(Form(think=False), [], False)
    assert constraint
    assert THINK not in (allowed(constraint) or {THINK})


def test_a_thought_is_opened_and_closed_in_the_prompt(constraints: Constraints, thinker: Tokenizer) -> None:
    prompt = thinker.encode("<|im_start|>assistant\n")
    opened = thinker.encode("<|im_start|>assistant\n<think>\n")
    assert constraints.think(prompt, None) == (prompt, False)
    assert constraints.think(prompt, True) == ([*prompt, THINK], True)
    assert constraints.think(prompt, False) == (prompt, False)
    assert constraints.think(opened, None) == (opened, True)
    assert constraints.think(opened, True) == (opened, True)
    assert constraints.think(opened, False) == ([*opened, THOUGHT], False)


@pytest.mark.parametrize(
    ("form", "tools", "sentence"),
    [
        (Form(tool_choice="required"), [], "no tool is offered"),
        (Form(tool_choice="then"), TOOLS, "'then' but should be auto, none, required or a tool's name"),
        (Form(tool_choice={"function": 5}), TOOLS, "should be auto"),
        (Form(tool_choice="required", constrain=False), TOOLS, "cannot be kept: constrain is off"),
        (Form(format="xml"), [], "format is 'xml'"),
    ],
)
def test_what_cannot_be_asked(form: Form, tools: Any, sentence: str, plain: Constraints) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        plain.of_reply(form, tools, False)


def test_only_a_model_with_tokens_for_it_thinks(plain: Constraints) -> None:
    with pytest.raises(RequestInvalid, match="no tokens for it"):
        plain.think([1], True)
