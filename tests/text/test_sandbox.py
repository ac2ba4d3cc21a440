"""Templates that loop, call themselves, double, pad or repeat: each ends in one sentence, soon and in little memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.errors import TemplateInvalid
from headrace.text import sandbox
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25, Template
from tests.hostile_files import bounds

MESSAGES = [{"role": "user", "content": "x"}]
MANY = "{% for i in range(99999) %}"
KEEP = "{% set n = namespace(x=[], y=[]) %}"
DOUBLE = KEEP + "{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
LINES = "('\\n' * 99999)"

ENDLESS = {
    "loops": MANY * 2 + "{% endfor %}{% endfor %}",
    "a loop with a condition": MANY + "{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "callers": "{% macro f(n) %}{% if n %}{{ caller() }}{% call f(n-1) %}{% endcall %}{% call f(n-1) %}{% endcall %}"
    "{% endif %}{% endmacro %}{% call f(60) %}{% endcall %}",
    "arguments": "{% macro f() %}{{ varargs|length }}{% endmacro %}" + MANY + "{{ f(*range(99999)) }}{% endfor %}",
    "filters": MANY + "{{ range(99999)|select('odd')|sum }}{% endfor %}",
    "methods": "{% set c = cycler('a') %}" + MANY * 2 + "{% set x = c.next() %}{% endfor %}{% endfor %}",
    "plain text": "{% set x %}" + MANY * 2 + "y" * 9999 + "{% endfor %}{% endfor %}{% endset %}",
    "slices": KEEP + "{% set l = range(99999)|list %}" + MANY + "{% set n.x = [n.x, l[1:]] %}{% endfor %}",
    "copies": KEEP + "{% set d = dict.fromkeys(range(99999)) %}" + MANY + "{% set n.x = [n.x, dict(d)] %}{% endfor %}",
    "kept texts": KEEP + MANY + "{% set n.x = [n.x, 'x' * 999999] %}{% endfor %}",
    "kept words": KEEP + MANY + "{% set n.x = [n.x, ('a ' * 9999999).split()] %}{% endfor %}",
    "~": "{% set n = namespace(x='aa') %}" + MANY + "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "+": "{% set n = namespace(x='aa') %}" + MANY + "{% set n.x = n.x + n.x %}{% endfor %}",
    "doubled": DOUBLE + "{{ n.x }}",
    "doubled, as JSON": DOUBLE + "{{ n.x|tojson }}",
    "doubled, joined": DOUBLE + "{% set x = 'a' ~ n.x %}",
    "doubled, compared": DOUBLE + "{{ n.x == n.y }}",
    "doubled, sought": DOUBLE + "{{ n.x in [n.y] }}",
    "doubled, tested": DOUBLE + "{{ n.x is eq(n.y) }}",
    "doubled, selected": DOUBLE + "{{ [n.x]|select('eq', n.y)|list|length }}",
    "doubled, indexed": DOUBLE + "{{ [n.x].index(n.y) }}",
    "doubled, formatted": DOUBLE + "{{ '%s' % n.x }}",
    "doubled, formatted otherwise": DOUBLE + "{{ '{}'.format(n.x) }}",
    "a sum of lists": "{{ ([range(9999)|list] * 9999)|sum(start=[])|length }}",
    "a list, joined": "{{ (['x' * 999999] * 99999)|join|length }}",
    "a separator": "{{ range(99999)|join('x' * 999999)|length }}",
    "a separator's method": "{{ ('x' * 99999).join(('y' * 99999)|list)|length }}",
    "replace": "{{ ('x' * 99999).replace('', 'y' * 99999)|length }}",
    "the replace filter": "{{ ('x' * 99999)|replace('x', 'y' * 99999)|length }}",
    "a filter block": "{% filter replace('a', 'b' * 99999) %}" + "a" * 99999 + "{% endfilter %}",
    "center": "{{ 'x'|center(10 ** 9) }}",
    "center by name": "{{ 'x'|center(width=1000000000) }}",
    "ljust": "{{ 'x'.ljust(1000000000)|length }}",
    "zfill": "{{ 'x'.zfill(1000000000)|length }}",
    "tabs": "{{ '\t'.expandtabs(1000000000)|length }}",
    "indent": "{{ " + LINES + "|indent(99999, true, true)|length }}",
    "indent by text": "{{ " + LINES + "|indent('x' * 99999, true, true)|length }}",
    "JSON with an indent": "{{ [1, 2]|tojson(indent=1000000000)|length }}",
    "batch": "{{ [1]|batch(1000000000, 'x')|list|length }}",
    "slice": "{{ [1]|slice(1000000000)|list|length }}",
    "% with a width": "{{ '%1000000000d' % 1 }}",
    "% with a star": "{{ '%*d' % (1000000000, 1) }}",
    "% with digits": "{{ '%.1000000000f' % 1 }}",
    "% many times": "{{ ('%(a)s' * 99999) % {'a': 'x' * 999999} }}",
    "the format filter": "{{ '%1000000000d'|format(1) }}",
    "format with a width": "{{ '{:1000000000}'.format(1) }}",
    "format with a width within": "{{ '{:{}}'.format(1, 1000000000) }}",
    "format of a mapping": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "format many times": "{{ ('{0}' * 99999).format('x' * 999999) }}",
    "powers": "{% set n = namespace(x=3) %}" + MANY + "{% set n.x = n.x * n.x %}{% endfor %}",
    "bytes": "{{ ('x'.encode() * 1000000000)|length }}",
    "bytes of a number": "{{ (1).to_bytes(1000000000, 'big')|length }}",
    "tables": "{{ ('a' * 99999).translate({97: 'b' * 99999})|length }}",
    "lipsum": "{{ lipsum(n=1000000000) }}",
    "a loop that calls itself": "{% for i in [1, 1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "a block that calls itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "brackets": "{{ " + "(" * 99999 + "1" + ")" * 99999 + " }}",
    "signs": "{{ " + "-" * 99999 + "1 }}",
    "sums": "{{ 1" + "+1" * 9999 + " }}",
    "dots": "{{ messages" + ".a" * 9999 + " }}",
    "a pipe": "{{ 1" + "|string" * 9999 + " }}",
    "ifs": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "length": "x" * (sandbox.MAX_TEMPLATE_CHARACTERS + 1),
}


@pytest.fixture(autouse=True)
def in_bounds() -> Iterator[None]:
    with bounds():
        yield


def refused(source: str) -> None:
    with pytest.raises(TemplateInvalid, match=r"^the chat template ") as refusal:
        Template(source).render(MESSAGES)
    assert "MemoryError" not in str(refusal.value), "stopped by the memory, not by the budget"


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_template_is_one_sentence(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WORK", sandbox.WORK // 16)
    refused(source)


@pytest.mark.slow
@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_template_with_the_whole_budget(source: str) -> None:
    refused(source)


@pytest.mark.parametrize("source", [FALLBACK_LFM2, FALLBACK_LFM25])
def test_the_budget_is_far_from_what_a_long_chat_with_many_tools_takes(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {f"p{i}": {"type": "string", "description": "x" * 80} for i in range(8)}
    tool = {"name": "f", "description": "x" * 300, "parameters": {"type": "object", "properties": parameters}}
    chat = [{"role": ("user", "assistant")[i % 2], "content": "word " * 100} for i in range(1000)]
    monkeypatch.setattr(sandbox, "WORK", sandbox.WORK // 8)
    assert len(Template(source).render(chat, [tool] * 100)) > 500_000


def test_what_a_macro_is_given_costs_nothing_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WORK", 1_000_000)
    source = "{% macro f(m) %}.{% endmacro %}{% for m in messages %}{{ f(messages) }}{% endfor %}"
    assert Template(source).render(MESSAGES * 2000) == "." * 2000
