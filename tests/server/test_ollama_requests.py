"""How values of Ollama's requests are read."""

from __future__ import annotations

import pytest

from headrace.engine import options
from headrace.engine.parameters import Parameters
from headrace.errors import RequestInvalid
from headrace.server.ollama.requests import LEVELS, check_language, thinking
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25


def test_levels_of_thinking() -> None:
    assert [thinking(value) for value in (None, True, False)] == [None, True, False]
    assert {thinking(level) for level in LEVELS} == {True}
    with pytest.raises(RequestInvalid, match="invalid think value"):
        thinking("High")


def test_every_option_has_one_place() -> None:
    honoured, ignored, neutral = set(options.HONOURED), set(options.IGNORED), set(options.NEUTRAL)
    assert honoured == {name for name in Parameters.__slots__ if name != "logit_bias"}
    assert not honoured & ignored
    assert not honoured & neutral
    assert not ignored & neutral


def test_options_that_mean_what_is_left_out() -> None:
    assert options.read({"seed": -1, "num_predict": -2, "top_p": None}).parameters == {"num_predict": -1}
    assert options.read({"seed": 0, "top_k": 3.0}).parameters == {"seed": 0, "top_k": 3}
    assert options.read({"num_ctx": 64.0}).num_ctx == 64


@pytest.mark.parametrize(
    "template", [FALLBACK_LFM2, FALLBACK_LFM25, "{{ messages[0].content }}", "{{ x.y }} $ {{- '.' }}"]
)
def test_jinja_is_not_taken_for_go(template: str) -> None:
    check_language(template)


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
        check_language(template)
