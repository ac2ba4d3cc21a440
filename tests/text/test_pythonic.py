"""Calls in Python's notation: read as Python reads them, written so that they read back."""

from __future__ import annotations

import ast
import keyword
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.text.calls import CALL_END, CALL_START
from headrace.text.pythonic import format_call, parse_calls


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("[f()]", [("f", {})]),
        (" [ f ( ) , ] \n", [("f", {})]),
        ("f()", [("f", {})]),
        ("f(), g()", [("f", {}), ("g", {})]),
        ('[f(a="x", n=1), b.c_1.d(z=None)]', [("f", {"a": "x", "n": 1}), ("b.c_1.d", {"z": None})]),
        ("f(a=True, b=false, c=null, d=None)", [("f", {"a": True, "b": False, "c": None, "d": None})]),
        ("f(a=False, b=true)", [("f", {"a": False, "b": True})]),
        ("f(a=-1, b=+2.5, c=1e3, d=.5, e=5., f=1_000, g=0x1F, h=007)",
         [("f", {"a": -1, "b": 2.5, "c": 1000.0, "d": 0.5, "e": 5.0, "f": 1000, "g": 31, "h": 7})]),
        ("f(a=[1, [2]], b={'k': {\"l\": ()}}, c=(1,), d=(1), e=(1, 2), g={1, 2}, h={}, i=[])",
         [("f", {"a": [1, [2]], "b": {"k": {"l": []}}, "c": [1], "d": 1, "e": [1, 2], "g": [1, 2], "h": {}, "i": []})]),
        ("f(class=1, from='x', in_=2)", [("f", {"class": 1, "from": "x", "in_": 2})]),
        ('f(a=1, **{"b-c": 2, "d e": 3}, f=4)', [("f", {"a": 1, "b-c": 2, "d e": 3, "f": 4})]),
        (r"""f(a='it\'s', b="\"q\"", c="\n\t\\ \x41 é \u00e9 \U0001F600 \101")""",
         [("f", {"a": "it's", "b": '"q"', "c": "\n\t\\ A é é 😀 A"})]),
        (r'f(a="\ud83d\ude00", b="\ud83d", c="\q \/ \d+")', [("f", {"a": "😀", "b": "\ufffd", "c": r"\q \/ \d+"})]),
        ('f(a="two\nlines, [b], (c), {d}=e")', [("f", {"a": "two\nlines, [b], (c), {d}=e"})]),
        ("f(a='''x'y''', b=\"\"\"\"q\" \"\"\", c='')", [("f", {"a": "x'y", "b": '"q" ', "c": ""})]),
        ("f(größe=1, 名='x')", [("f", {"größe": 1, "名": "x"})]),
        ("f(a={1: 2, None: 3, True: 4, 1.5: 5})", [("f", {"a": {"1": 2, "null": 3, "true": 4, "1.5": 5}})]),
        ("f(a='12', b=12)", [("f", {"a": "12", "b": 12})]),
        ("f(a='one '\n 'two', b=[\"x\" 'y'])", [("f", {"a": "one two", "b": ["xy"]})]),
        (r"f(a=r'\d\n', b=u'x', c=f'{{}}', d=rf'\d')", [("f", {"a": r"\d\n", "b": "x", "c": "{}", "d": r"\d"})]),
        (r"f(a='\N{EM DASH}', b='\N{NO SUCH}', c='\,')", [("f", {"a": "—", "b": r"\N{NO SUCH}", "c": r"\,"})]),
        ("f(a=0o17, b=0b101, c=-0x1f, d=1E2)", [("f", {"a": 15, "b": 5, "c": -31, "d": 100.0})]),
        ("f(a='x\x00y', b='a\r\nb')", [("f", {"a": "x\x00y", "b": "a\r\nb"})]),
        ("get-time(user-id=1, a.b=2)", [("get-time", {"user-id": 1, "a.b": 2})]),
        ("2fa-(), -a--b_()", [("2fa-", {}), ("-a--b_", {})]),
        ("mcp:files/read(a=1)", [("mcp:files/read", {"a": 1})]),
        ('[f(a=1)], [g()]', [("f", {"a": 1}), ("g", {})]),
        ('[{"name": "f", "arguments": {"b": 1, "a": "\\/\\u00e9"}}]', [("f", {"b": 1, "a": "/é"})]),
        ('{"name": "f", "parameters": {"a": 1.0}}', [("f", {"a": 1.0})]),
        ('{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}', [("f", {"a": 1})]),
        ("{'name': 'f', 'arguments': {'a': True, 'b': (1,)}}, g()", [("f", {"a": True, "b": [1]}), ("g", {})]),
        ('[{"name": "f"}, {"name": "g", "arguments": null}]', [("f", {}), ("g", {})]),
    ],
)  # fmt: skip
def test_calls(body: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    found = parse_calls(body)
    assert found == calls
    assert [[*arguments] for _, arguments in found] == [[*arguments] for _, arguments in calls]
    assert [repr(arguments) for _, arguments in found] == [repr(arguments) for _, arguments in calls]


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", " ", "f", "f(", "f()g()", "[f()", "f()]", "[f()] x", "[[f()]]", "f(1)", "f(a)", "f(a=)", "f(=1)",
        "f(a=1 b=2)", "f(a=1,,b=2)", "f(,)", "f(a=1, a=2)", "f(a=1, **{'a': 2})", "f(**1)", "f(**{1, 2})", "f(**{'a'})",
        "f(a='x)", 'f(a="x\')', "f(a=x)", "f(a=g())", "f(a=1+1)", "f(a=--1)", "f(a=1.2.3)", "f(a=1x)", "f(a=nan)",
        "f(a=inf)", "f(a=1e999)", "f(a=-1e999)", "f(a={1: 2, 3})", "f(a={[]: 1})", "f(a=[1 2])", "f(a='a''b')",
        "f.(a=1)", ".f()", "12()", "-1()", "f(a=" + "[" * 100_000, "f(a=" + "-" * 100_000 + "1)", "[" * 100_000,
        "f(a=" + "9" * 10_000 + ")", r"f(a='\UFFFFFFFF')", "\x00", "f(\x00a=1)", "import os", "f(a=lambda: 1)",
        "f(a=b'x')", "f(a=f'{x}')", "f(a=Infinity)", "f(a=1j)", '{"name": "f", "arguments": [1]}', '{"name": 1}',
        '{"name": "f", "arguments": {"a": NaN}}', '{"name": "f", "arguments": {"a": 1e999}}', '{"arguments": {}}',
        '{"name": "f(a=1), g", "arguments": {}}', '{"name": "f", "arguments": ' + "[" * 100_000, "f(*{'a': 1})",
    ],
)  # fmt: skip
def test_what_is_no_call_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_calls(body)


def test_depth_is_what_is_bounded_not_length() -> None:
    assert parse_calls("f(a=[" + "[[]], " * 1000 + "])") == [("f", {"a": [[[]]] * 1000})]


@given(body=st.text(alphabet="fa[](){}=,:'\"\\ 1-*.\nx", max_size=30))
@settings(max_examples=400)
def test_any_text_gives_calls_or_a_value_error(body: str) -> None:
    try:
        calls = parse_calls(body)
    except ValueError:
        return
    assert calls


NO_SURROGATES = st.characters(exclude_categories=["Cs"])
TEXT = st.one_of(
    st.text(NO_SURROGATES, max_size=10),
    st.sampled_from([CALL_END, CALL_START, "</think>", "'\"\\", "\r\n\x00\x85\u2028", "\\n", '"""']),
)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
JSON = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAME = st.one_of(st.from_regex(r"[a-z_]\w{0,5}", fullmatch=True), st.sampled_from(keyword.kwlist), TEXT)


@given(
    name=st.from_regex(r"[a-z]\w{0,5}(\.[a-z]\w{0,5})?", fullmatch=True),
    arguments=st.dictionaries(NAME, JSON, max_size=4),
)
@settings(max_examples=300)
def test_what_is_written_reads_back(name: str, arguments: dict[str, Any]) -> None:
    written = format_call(name, arguments)
    assert "<|" not in written  # so no string ends the block it is in,
    assert "think>" not in written.replace("\\u003cthink>", "").replace(
        "\\u003c/think>", ""
    )  # nor is cut off by a template
    for body in (written, f"[{written}, g()]"):
        found, back = parse_calls(body)[0]
        assert found == name
        assert repr(back) == repr(arguments)  # order, and 1 beside 1.0 beside True, too


@given(arguments=st.dictionaries(st.sampled_from(["a", "b", "c"]), JSON, max_size=3))
def test_what_is_written_is_python(arguments: dict[str, Any]) -> None:
    expression = ast.parse(format_call("f", arguments), mode="eval").body
    assert isinstance(expression, ast.Call)
    assert {word.arg: ast.literal_eval(word.value) for word in expression.keywords} == arguments


def test_how_a_call_is_written() -> None:
    assert format_call("get", {"id": "12345", "n": 1, "x": [1.0, True, None, {"k": "é\n"}]}) == (
        'get(id="12345", n=1, x=[1.0, True, None, {"k": "é\\n"}])'
    )
    assert format_call("f", {"a b": 1, "class": CALL_END}) == 'f(**{"a b": 1}, class="\\u003c|tool_call_end|>")'
    assert format_call("f", {}) == "f()"


@pytest.mark.parametrize("name", ["", "f(a=1), g", "f g()", "<|im_end|>", "a\nb", "a=b", " f", "f'"])
def test_what_is_no_name_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a tool"):
        format_call(name, {})


def test_depth_is_bounded_when_writing() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        format_call("f", {"a": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1}, {1: 2}, object()])
def test_only_json_can_be_written(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON value"):
        format_call("f", {"a": value})
