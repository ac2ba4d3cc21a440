"""A conversation as a prompt: transformers' byte for byte, or repaired; what was called reads back as it was."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headrace
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25
from tests import random_models

S, E = "<|tool_call_start|>", "<|tool_call_end|>"

# The family's templates, as published: models/templates of the llama.cpp that is in llama-cpp-python's sdist.
TEMPLATES = Path(os.environ.get("HEADRACE_TEMPLATES", Path(__file__).parents[1] / "build" / "templates"))
PUBLISHED = ("LFM2-8B-A1B", "LFM2.5-Instruct", "LFM2.5-8B-A1B")
OURS = {"LFM2": FALLBACK_LFM2, "LFM2.5": FALLBACK_LFM25}
CALLS_FIRST = {"LFM2", "LFM2-8B-A1B"}


def source(name: str) -> str:
    if name in OURS:
        return OURS[name]
    path = TEMPLATES / f"{name}.jinja"
    if not path.exists():
        pytest.skip(
            f"{path.name} is not in {TEMPLATES}: it is in models/templates of the sdist of llama-cpp-python 0.3.36 "
            "(pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36); HEADRACE_TEMPLATES says where"
        )
    return path.read_text(encoding="utf-8")


ALL = pytest.mark.parametrize("name", [*OURS, *PUBLISHED])


def turn(role: str, content: object = None, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def said(prompt: str) -> str:
    """The text of the last assistant turn."""
    return re.findall(r"<\|im_start\|>assistant\n(.*?)<\|im_end\|>\n", prompt, re.DOTALL)[-1]


# Beside transformers.

TOOL = {"name": "f", "description": 'Größe, 日本, "x" <b> \'', "parameters": {"type": "object", "properties": {}}}
TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " \n", "é😀\u2028", "<think>a</think>b", "</think>", "x</think> y</think>\n z ", "<b>&'\"\\"]),
)
PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
    st.just({"type": "image"}),
    st.fixed_dictionaries({"type": st.just("odd"), "value": st.integers()}),
)
CONTENT = st.one_of(TEXT, TEXT, st.none(), st.lists(PART, max_size=3))
VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, st.lists(TEXT, max_size=2))
CALLS = st.lists(
    st.builds(call, st.sampled_from(["f", "a.b"]), st.dictionaries(st.sampled_from("abc"), VALUE, max_size=2)),
    max_size=2,
)


@st.composite
def messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns = draw(st.lists(st.builds(turn, st.just("system"), CONTENT), max_size=1))
    for role in draw(st.lists(st.sampled_from(["user", "assistant", "tool"]), min_size=1, max_size=5)):
        more: dict[str, Any] = {}
        if role == "assistant" and draw(st.booleans()):
            more["thinking"] = draw(TEXT)
        if role == "assistant" and draw(st.booleans()):
            more["tool_calls"] = draw(CALLS)
        turns.append(turn(role, draw(CONTENT), **more))
    return turns


TOOLS = st.sampled_from([None, [], [TOOL], [{"type": "function", "function": TOOL}, TOOL]])


def by_transformers(template: str, chat: Any, **kwargs: Any) -> str | None:
    """None where it, or the template, refuses."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<|startoftext|>", eos_token="<|im_end|>"
    )
    try:
        return str(tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, **kwargs))
    except Exception:  # whatever a template's failure looks like
        return None


def by_headrace(template: str, chat: Any, **kwargs: Any) -> str | None:
    try:
        return headrace.render(template, chat, repair=False, **kwargs)
    except (headrace.TemplateInvalid, headrace.RequestInvalid):
        return None


@ALL
@given(chat=messages(), tools=TOOLS, prompt=st.booleans(), keep=st.booleans())
@settings(max_examples=60)
def test_unrepaired_it_is_what_transformers_says(name: str, chat: Any, tools: Any, prompt: bool, keep: bool) -> None:
    kwargs = {"keep_past_thinking": keep, "preserve_thinking": keep}
    expected = by_transformers(source(name), chat, tools=tools, add_generation_prompt=prompt, **kwargs)
    assert by_headrace(source(name), chat, tools=tools, add_generation_prompt=prompt, **kwargs) == expected


@ALL
@given(chat=messages(), which=st.sampled_from([True, "content", "thinking", "reasoning_content", "name"]))
@settings(max_examples=60)
def test_a_last_message_is_continued_as_transformers_does(name: str, chat: Any, which: Any) -> None:
    expected = by_transformers(source(name), chat, continue_final_message=which)
    assert by_headrace(source(name), chat, continue_final_message=which) == expected
    assert by_headrace(source(name), chat, continue_final_message=which, add_generation_prompt=False) == expected


@ALL
def test_ordinary_conversations_are_not_refused(name: str) -> None:
    """So that the comparisons above compare more than refusals."""
    chat = [turn("system", "S"), turn("user", "Q"), turn("assistant", "A"), turn("tool", "R"), turn("assistant", "B ")]
    for kwargs in ({}, {"tools": [TOOL]}, {"continue_final_message": True}):
        expected = by_transformers(source(name), chat, **kwargs)
        assert expected is not None
        assert by_headrace(source(name), chat, add_generation_prompt=False, **kwargs) == expected
    assert by_headrace(source(name), chat, continue_final_message=True).endswith("\nB ")  # type: ignore[union-attr]


def test_a_continued_message_keeps_its_calls() -> None:
    chat = [turn("user", "Q"), turn("assistant", "Now", tool_calls=[call("f", {"a": 1})])]
    for name in OURS:
        block = f"{S}[f(a=1)]{E}"
        expected = block + "Now" if name in CALLS_FIRST else "Now" + block
        prompt = headrace.render(OURS[name], chat, continue_final_message=True)
        assert prompt.endswith(f"<|im_start|>assistant\n{expected}")


@pytest.mark.parametrize(
    ("last", "which", "sentence"),
    [
        (turn("assistant", None), True, "has no 'content' to go on with"),
        (turn("assistant", "x"), "thinking", "has no 'thinking' to go on with"),
        (turn("assistant", "x", mood="n"), "mood", "knows no 'mood'"),
        (turn("assistant", {"a": 1}), True, "is a dict: only text"),
        (turn("assistant", [{"type": "image"}]), True, "no text to go on with"),
    ],
)
def test_what_cannot_be_continued_is_a_sentence(last: Any, which: Any, sentence: str) -> None:
    with pytest.raises(headrace.RequestInvalid, match=sentence):
        headrace.render(FALLBACK_LFM2, [turn("user", "x"), last], repair=False, continue_final_message=which)
    with pytest.raises(headrace.TemplateInvalid, match="it cannot be continued"):
        headrace.render(
            "{{ messages[0].content }}", [turn("user", "x"), turn("assistant", "y")], continue_final_message=True
        )


# Repaired.


@ALL
def test_calls_stand_where_the_dialect_has_them(name: str) -> None:
    block = f'{S}[f(a="it\'s", n=1, x=1.0, y=True, z=[None, {{"k": "\\n"}}], **{{"b-c": ""}}), g()]{E}'
    arguments = {"a": "it's", "n": 1, "x": 1.0, "y": True, "z": [None, {"k": "\n"}], "b-c": ""}
    for given_ in (arguments, json.dumps(arguments)):
        for prose in ("Let me see.", None, "", [{"type": "text", "text": "Let me "}, {"type": "text", "text": "see."}]):
            chat = [turn("user", "Q"), turn("assistant", prose, tool_calls=[call("f", given_), {"name": "g"}])]
            text = "Let me see." if prose else ""
            expected = block + text if name in CALLS_FIRST else text + block
            assert said(headrace.render(source(name), chat)) == expected


@ALL
def test_what_is_null_is_empty(name: str) -> None:
    chat = [turn("system"), turn("user"), turn("assistant", tool_calls=[]), turn("tool"), {"role": "user"}]
    prompt = headrace.render(source(name), chat, add_generation_prompt=False)
    result = "<|tool_response_start|><|tool_response_end|>" if name in CALLS_FIRST else ""
    ends = {"user": "", "assistant": "", "tool": result}
    turns = "".join(f"<|im_start|>{role}\n{ends[role]}<|im_end|>\n" for role in ("user", "assistant", "tool", "user"))
    assert prompt == "<|startoftext|>" + turns


@ALL
@given(chat=messages(), tools=TOOLS)
@settings(max_examples=30)
def test_what_needs_no_repair_is_left_alone(name: str, chat: Any, tools: Any) -> None:
    for message in chat:
        message.pop("tool_calls", None)
        message["content"] = message["content"] or "x"
    try:
        plain = headrace.render(source(name), chat, tools, repair=False)
    except headrace.TemplateInvalid:
        return
    assert headrace.render(source(name), chat, tools) == plain


NO_SURROGATES = st.characters(exclude_categories=["Cs"])
TRICKY = st.sampled_from(
    [S, E, "<|im_end|>", "</think>", "<think>", "'\"\\", "\r\n\x00\x85\u2028", "\\n", '"""', "[f(a=1)]", "1", "True"]
)
WORDS = st.one_of(st.text(NO_SURROGATES, max_size=10), TRICKY)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
KEYS = st.one_of(st.from_regex(r"[a-z_]\w{0,5}", fullmatch=True), st.sampled_from(["class", "True", "a-b", ""]), WORDS)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{0,4}[A-Za-z_][A-Za-z0-9_-]{0,4}(\.[a-z]\w{0,5})?", fullmatch=True)
PROSE = st.text(NO_SURROGATES, max_size=30).filter(
    lambda text: "<|" not in text and "think>" not in text and not re.search(r"\[.*\]", text, re.DOTALL)
)


@ALL
@given(
    calls=st.lists(st.tuples(NAMES, st.dictionaries(KEYS, JSON, max_size=4)), min_size=1, max_size=3),
    prose=st.one_of(st.none(), PROSE),
    as_text=st.booleans(),
)
@settings(max_examples=100)
def test_what_was_called_reads_back(name: str, calls: Any, prose: str | None, as_text: bool) -> None:
    written = [call(f, json.dumps(arguments) if as_text else arguments) for f, arguments in calls]
    chat = [turn("user", "Q"), turn("assistant", prose, tool_calls=written), turn("tool", "R"), turn("user", "Q")]
    reply = headrace.parse_reply(said(headrace.render(source(name), chat)))
    assert [(one.name, repr(one.arguments)) for one in reply.tool_calls] == [(f, repr(args)) for f, args in calls]
    assert reply.content == (prose or "").strip()
    assert reply.warnings == []


# What a template is.


def test_a_template_is_text_a_name_or_a_model() -> None:
    chat = [turn("user", "Q")]
    assert headrace.render("{{ bos_token }}{{ eos_token }}{{ x }}", chat, x=1) == "<|startoftext|><|im_end|>1"
    assert headrace.render("{% if true %}y{% endif %}", chat) == "y"
    by_name = headrace.render("nano", chat)
    assert by_name.startswith("<|startoftext|><|im_start|>user\nQ<|im_end|>")
    with headrace.load("nano") as model:
        assert headrace.render(model, chat) == by_name
        ids = model.tokenize(by_name)
        assert model.detokenize(ids) == by_name
    with pytest.raises(headrace.ModelNotFound, match="there is no model 'nanoo'"):
        headrace.render("nanoo", chat)


def test_a_file_without_template_speaks_its_architectures_dialect(tmp_path: Path) -> None:
    """Whatever it is called: LFM2.5's is known by `<think>`, one token."""
    chat = [turn("user", "Q"), turn("tool", "R")]
    for think, result in ((False, "<|tool_response_start|>R<|tool_response_end|>"), (True, "R")):
        model = random_models.dense(vocab_size=random_models.VOCABULARY + 2)
        folder = random_models.save_tokenizer(random_models.save(model, tmp_path / f"LFM2.5-{think}"))
        for file in ("chat_template.jinja", "chat_template.json"):
            (folder / file).unlink(missing_ok=True)
        if think:
            path = folder / "tokenizer.json"
            state = json.loads(path.read_text())
            token = max(state["model"]["vocab"].values()) + 1
            state["added_tokens"] += [
                dict(state["added_tokens"][-1], id=token + place, content=tag, special=False)
                for place, tag in enumerate(("<think>", "</think>"))
            ]
            path.write_text(json.dumps(state))
        assert f"<|im_start|>tool\n{result}<|im_end|>" in headrace.render(folder, chat)


def test_tools_are_kept_as_they_were_given() -> None:
    def add(a: int) -> int:
        """Adds."""
        return a

    odd = {"extra": [1, 1.0, "é"], "name": "f", "strict": True}
    prompt = headrace.render(FALLBACK_LFM25, [turn("user", "Q")], [odd, {"type": "function", "function": odd}, add])
    shown = json.dumps(odd, ensure_ascii=False)
    assert f'List of tools: [{shown}, {{"type": "function", "function": {shown}}}, {{"name": "add", ' in prompt
