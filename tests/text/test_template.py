"""Rendering equals transformers' byte for byte; a hostile template gets nowhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from headrace.errors import RequestInvalid, TemplateInvalid
from headrace.text import template as template_module
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25, Template

NAMES = {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
TOOL = {
    "name": "get_candidate_status",
    "description": "Retrieves the current status of a candidate in the recruitment process",
    "parameters": {
        "type": "object",
        "properties": {"candidate_id": {"type": "string", "description": "Unique identifier for the candidate"}},
        "required": ["candidate_id"],
    },
}
CALL = '<|tool_call_start|>[get_candidate_status(candidate_id="12345")]<|tool_call_end|>'
RESULT = (
    '[{"candidate_id": "12345", "status": "Interview Scheduled", "position": "Clinical Research Associate", '
    '"date": "2023-11-20"}]'
)
ANSWER = (
    'The candidate with ID 12345 is currently in the "Interview Scheduled" stage for the position of Clinical Research '
    "Associate, with an interview date set for 2023-11-20."
)


def turn(role: str, content: object, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_golden_conversation_without_tools() -> None:
    messages = [
        turn("system", "You are a helpful assistant trained by Liquid AI."),
        turn("user", "What is C. elegans?"),
        turn("assistant", "It's a tiny nematode that lives in temperate soil environments."),
    ]
    assert Template(FALLBACK_LFM2, NAMES).render(messages, add_generation_prompt=False) == (
        "<|startoftext|><|im_start|>system\nYou are a helpful assistant trained by Liquid AI.<|im_end|>\n"
        "<|im_start|>user\nWhat is C. elegans?<|im_end|>\n"
        "<|im_start|>assistant\nIt's a tiny nematode that lives in temperate soil environments.<|im_end|>\n"
    )


def test_golden_conversation_with_a_tool() -> None:
    messages = [
        turn("user", "What is the current status of candidate ID 12345?"),
        turn("assistant", CALL + "Checking the current status of candidate ID 12345."),
        turn("tool", RESULT),
        turn("assistant", ANSWER),
    ]
    assert Template(FALLBACK_LFM2, NAMES).render(messages, tools=[TOOL], add_generation_prompt=False) == (
        "<|startoftext|><|im_start|>system\n"
        'List of tools: <|tool_list_start|>[{"name": "get_candidate_status", "description": "Retrieves the current '
        'status of a candidate in the recruitment process", "parameters": {"type": "object", "properties": '
        '{"candidate_id": {"type": "string", "description": "Unique identifier for the candidate"}}, "required": '
        '["candidate_id"]}}]<|tool_list_end|><|im_end|>\n'
        "<|im_start|>user\nWhat is the current status of candidate ID 12345?<|im_end|>\n"
        '<|im_start|>assistant\n<|tool_call_start|>[get_candidate_status(candidate_id="12345")]<|tool_call_end|>'
        "Checking the current status of candidate ID 12345.<|im_end|>\n"
        f"<|im_start|>tool\n<|tool_response_start|>{RESULT}<|tool_response_end|><|im_end|>\n"
        f"<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
    )


def test_the_lfm25_dialect() -> None:
    messages = [
        turn("system", "S"),
        turn("user", "Q"),
        turn("assistant", "<think>old</think>\n\nA "),
        turn("tool", {"n": 1}),
        turn("user", "</think>"),
        turn("assistant", "<think>new</think>B"),
    ]
    head = (
        '<|startoftext|><|im_start|>system\nS\nList of tools: [{"name": "f"}, as it is]<|im_end|>\n'
        "<|im_start|>user\nQ<|im_end|>\n"
    )
    tail = (
        '<|im_start|>tool\n{"n": 1}<|im_end|>\n<|im_start|>user\n</think><|im_end|>\n'
        "<|im_start|>assistant\n<think>new</think>B<|im_end|>\n<|im_start|>assistant\n"
    )
    lfm25, tools = Template(FALLBACK_LFM25, NAMES), [{"name": "f"}, "as it is"]
    assert lfm25.render(messages, tools) == f"{head}<|im_start|>assistant\nA<|im_end|>\n{tail}"
    kept = f"{head}<|im_start|>assistant\n<think>old</think>\n\nA <|im_end|>\n{tail}"
    assert lfm25.render(messages, tools, keep_past_thinking=True) == kept


CONTENT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", " \n", "<|im_end|>", "<think>a</think>b", "ü😀\n", '"\\', "</think>", "<b>&'"]),
    st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=8)}), max_size=2),
    st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), st.booleans(), st.none(), st.text()), max_size=2),
)
TURN = st.builds(turn, st.sampled_from(["user", "assistant", "tool"]), CONTENT)
TOOLS = st.one_of(
    st.none(), st.just([]), st.lists(st.dictionaries(st.text(max_size=5), CONTENT, max_size=3), min_size=1, max_size=2)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    head = draw(st.lists(st.builds(turn, st.just("system"), st.text(max_size=9)), max_size=1))
    return head + draw(st.lists(TURN, min_size=1, max_size=5))


# Small odd templates, each for something of the environment.
ODD = {
    "trim_blocks": "{% for m in messages %}\n  {% if true %}\n{{ m.role }}|\n  {% endif %}\n{% endfor %}\nend\n",
    "tojson": "{{ messages | tojson }} {{ messages | tojson(indent=2) }} {{ tools | tojson(ensure_ascii=true) }}",
    "tojson sorted": "{{ messages | tojson(sort_keys=true, separators=(',', ':')) }}",
    "loop controls": "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{% if m.role == 'user' %}"
    "{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{% set x = m.role %}{{ x }}{% endgeneration %}"
    "[{{ x }}]{% endfor %}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}",
    "globals": "{% set d = dict(a=1) %}{{ d.a }}{{ dict.fromkeys(['k'], 2) }}{% for i in range(3) %}{{ i }}{% endfor %}"
    "{% set n = namespace(a=1) %}{% set n.b = 2 %}{{ n.a + n.b }}",
    "documents": "{{ documents }} {{ tools is none }} {{ add_generation_prompt }} {{ nothing }} "
    "{{ nothing is defined }}",
    "missing content": "{% for m in messages %}{{ m.content is defined }}{{ m.get('content') }}"
    "{{ m['content'] }}{% endfor %}",
    "methods": "{% for m in messages %}{{ m.items() | list }}{{ m.role.upper() }}{{ '%s' % m.role }}"
    "{{ '{}'.format(m.role) }}{% endfor %}",
    "whitespace": "{{- messages[0].role -}}  \n\n {#- c -#} x {%- if true %} y{% endif %}\n",
    "escaping": "{{ messages[0].content }}<&>'\"",
}


@pytest.mark.parametrize("name", ["LFM2", "LFM2.5", *ODD])
@given(messages=conversations(), tools=TOOLS, prompt=st.booleans())
@settings(max_examples=25)
def test_rendering_equals_transformers(
    name: str,
    messages: list[dict[str, Any]],
    tools: list[Any] | None,
    prompt: bool,
    transformers_tokenizer: PreTrainedTokenizerFast,
) -> None:
    source = {"LFM2": FALLBACK_LFM2, "LFM2.5": FALLBACK_LFM25, **ODD}[name]
    expected = transformers_tokenizer.apply_chat_template(
        messages, tools=tools, chat_template=source, tokenize=False, add_generation_prompt=prompt
    )
    assert Template(source, NAMES).render(messages, tools, prompt) == expected


@given(messages=conversations(), tools=TOOLS, prompt=st.booleans())
def test_the_lfm2_dialect_is_the_published_one(
    messages: list[dict[str, Any]], tools: list[Any] | None, prompt: bool, lfm2_template: str
) -> None:
    published = Template(lfm2_template, NAMES).render(messages, tools, prompt)
    assert Template(FALLBACK_LFM2, NAMES).render(messages, tools, prompt) == published


@pytest.mark.parametrize(
    "messages",
    [
        [turn("assistant", None, tool_calls=[{"function": {"name": "f", "arguments": {}}}])],
        [turn("assistant", None), turn("user", "x", name=None)],
        [{"role": "user"}],
        [turn("assistant", "a", reasoning_content="r"), turn("assistant", "a", thinking="t")],
        [turn("assistant", "a", reasoning="s", thinking="t")],
    ],
)
@pytest.mark.parametrize("source", ["{{ messages }}", ODD["missing content"], "{{ messages | tojson }}"])
def test_nulls_and_thinking_equal_transformers(
    messages: list[dict[str, Any]], source: str, transformers_tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = transformers_tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False)
    assert Template(source, NAMES).render(messages, add_generation_prompt=False) == expected


def test_variables_and_the_clock(transformers_tokenizer: PreTrainedTokenizerFast) -> None:
    source = "{{ strftime_now('%Y') }} {{ think }} {{ bos_token }} {{ deep.a[0] }}"
    variables = {"think": True, "bos_token": "B", "deep": {"a": (1, 2)}}
    expected = transformers_tokenizer.apply_chat_template(
        [turn("user", "x")], chat_template=source, tokenize=False, **variables
    )
    assert Template(source, NAMES).render([turn("user", "x")], **variables) == expected
    assert expected.startswith(str(datetime.now().year))


def test_a_template_may_refuse() -> None:
    template = Template("{% if messages[0].role != 'user' %}{{ raise_exception('begin with user') }}{% endif %}ok")
    assert template.render([turn("user", "x")]) == "ok"
    with pytest.raises(TemplateInvalid, match="refuses these messages: begin with user"):
        template.render([turn("tool", "x")])


def test_a_failure_says_which_message_has_no_content(lfm2_template: str) -> None:
    with pytest.raises(TemplateInvalid, match=r"fails on these messages: .*without content: message 2 \(assistant\)"):
        Template(lfm2_template, NAMES).render([turn("user", "x"), turn("assistant", None)])


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "{% for %}{% endfor %}", "{% include 'x' %}{% nosuchtag %}"])
def test_a_template_that_is_no_jinja(source: str) -> None:
    with pytest.raises(TemplateInvalid, match="cannot be read"):
        Template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[0].__init__.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__globals__ }}",
        "{{ (''|attr('__class__')).x }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ dict.__class__ }}",
        "{{ dict.__call__.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ messages[0].pop('role') }}",
        "{% set n = namespace(__class__=1) %}",
        "{% set n = namespace() %}{% set n.__html__ = 1 %}",
        "{% set n = namespace() %}{{ n.__init__.__globals__ }}",
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * [1] }}",
        "{{ 9**(9**9) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% set n = namespace(x=2) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% include 'x' %}",
        "{% import 'os' as os %}",
        "{{ nothing.x }}",
        "{{ 1 / 0 }}",
        "{{ messages[0] + 1 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' | nosuchfilter }}",
    ],
)
def test_a_hostile_template_is_one_sentence(source: str) -> None:
    messages = [turn("user", "x")]
    with pytest.raises(TemplateInvalid, match="the chat template"):
        Template(source).render(messages)
    assert messages == [turn("user", "x")]


def test_endless_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_PROMPT_CHARACTERS", 10_000)
    source = "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxx{% endfor %}{% endfor %}"
    with pytest.raises(TemplateInvalid, match="prints more than 10000 characters"):
        Template(source).render([turn("user", "x")])


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([], "at least one message"),
        ("hi", "not a list"),
        (["hi"], "message 1 is a str"),
        ([turn("user", "a"), {"content": "x"}], "message 2 has the role None"),
        ([turn("<|im_end|>", "x")], "message 1 has the role '<|im_end|>'"),
        ([turn("user<|im_end|>", "x")], "message 1 has the role 'user<|im_end|>'"),
        ([turn("", "x")], "message 1 has the role ''"),
        ([turn("user", b"x")], "message 1 holds a bytes: expected JSON values only"),
        ([turn("user", {1, 2})], "message 1 holds a set"),
        ([turn("user", [object()])], "message 1 holds a object"),
        ([turn("assistant", "", tool_calls="f()")], "message 1: tool_calls is not a list of objects"),
        ([turn("assistant", "", tool_calls=["f()"])], "message 1: tool_calls is not a list of objects"),
        ([turn("user", nested())], "message 1 is nested too deeply"),
    ],
)
def test_messages_of_the_wrong_shape(messages: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        Template(FALLBACK_LFM2, NAMES).render(messages)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("tools", "sentence"), [("f", "tools is a str"), ([1], "tool 1 is a int"), ([{"a": print}], "tool 1 holds a ")]
)
def test_tools_of_the_wrong_shape(tools: Any, sentence: str) -> None:
    with pytest.raises(RequestInvalid, match=sentence):
        Template(FALLBACK_LFM2, NAMES).render([turn("user", "x")], tools)


def test_objects_reach_a_template_as_plain_data() -> None:
    class Text(str):
        __slots__ = ()
        secret: Callable[[], str] = staticmethod(lambda: "out")

    source = "{{ messages[0].content.secret is defined }}{{ messages[0].n }}"
    assert Template(source).render([turn("user", Text("x"), n=True)]) == "FalseTrue"
