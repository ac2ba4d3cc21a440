"""How values of Ollama's requests are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.parameters import Parameters
from headrace.errors import RequestInvalid
from headrace.server import ollama_options
from headrace.server.ollama_requests import LEVELS, check_template, seconds, thinking
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25


@pytest.mark.parametrize(
    ("keep_alive", "expected"),
    [
        (None, None),
        (0, 0),
        (300, 300),
        (1.5, 1.5),
        (-1, -1),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h30m1.5s", 5401.5),
        ("250ms", 0.25),
        (".5s", 0.5),
        ("+2s", 2),
        ("-1m", -60),
        ("-1", -1),
        ("0", 0),
        (" 10 ", 10),
        ("3µs", 3e-6),
    ],
)
def test_keep_alive(keep_alive: int | float | str | None, expected: float | None) -> None:
    assert seconds(keep_alive) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "keep_alive", ["", "m", "5x", "5m3", "1h 30m", "--1s", "1e3s", "inf", "nan", "5mm", "٣s", 1e999]
)
def test_no_keep_alive(keep_alive: float | str) -> None:
    with pytest.raises(RequestInvalid, match=r"^keep_alive is "):
        seconds(keep_alive)


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=5))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert seconds(text) == pytest.approx(sum(number * units[unit] for number, unit in parts))


@given(st.text(max_size=12))
def test_every_text_is_a_finite_number_or_refused(text: str) -> None:
    try:
        found = seconds(text)
    except RequestInvalid:
        return
    assert found is not None
    assert math.isfinite(found)


def test_levels_of_thinking() -> None:
    assert [thinking(value) for value in (None, True, False)] == [None, True, False]
    assert {thinking(level) for level in LEVELS} == {True}
    with pytest.raises(RequestInvalid, match="invalid think value"):
        thinking("High")


def test_every_option_has_one_place() -> None:
    honoured, ignored, neutral = set(ollama_options.HONOURED), set(ollama_options.IGNORED), set(ollama_options.NEUTRAL)
    assert honoured == {name for name in Parameters.__slots__ if name != "logit_bias"}
    assert not honoured & ignored
    assert not honoured & neutral
    assert not ignored & neutral


def test_options_that_mean_what_is_left_out() -> None:
    assert ollama_options.read({"seed": -1, "num_predict": -2, "top_p": None}).parameters == {"num_predict": -1}
    assert ollama_options.read({"seed": 0, "top_k": 3.0}).parameters == {"seed": 0, "top_k": 3}
    assert ollama_options.read({"num_ctx": 64.0}).num_ctx == 64


@pytest.mark.parametrize(
    "template", [FALLBACK_LFM2, FALLBACK_LFM25, "{{ messages[0].content }}", "{{ x.y }} $ {{- '.' }}"]
)
def test_jinja_is_not_taken_for_go(template: str) -> None:
    check_template(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Prompt }}",
        "{{- if .System }}x{{ end }}",
        "{{- range $i, $_ := .Messages }}x{{- end }}",
        "{{ $last := 1 }}",
        "{{ else if eq .Role }}",
        '{{ template "x" . }}',
        "{{.}}",
    ],
)
def test_go_is_refused(template: str) -> None:
    with pytest.raises(RequestInvalid, match="Go's template language"):
        check_template(template)
