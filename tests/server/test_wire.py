"""Bodies: what is taken, and what is said of the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import msgspec
import pytest

from headrace.errors import Busy, RequestInvalid, TemplateInvalid, TooLarge, TooSlow
from headrace.server.wire import (
    Fields,
    Gone,
    Intake,
    Limits,
    check_form,
    check_template,
    decode,
    decode_json,
    has_body,
    read_body,
)
from headrace.text.template import Template
from tests.server import raw
from tests.server.live import Live
from tests.server.tiny import body

LIMITS = Limits(body_bytes=1000, body_s=0.05, items=100, depth=8, form_bytes=50, template_bytes=60)


class Asked(Fields):
    ignored: ClassVar[frozenset[str]] = frozenset({"keep"})
    refused: ClassVar[dict[str, str]] = {"images": "this model sees no images"}

    prompt: str
    seed: int | None = None
    stop: list[str] = msgspec.field(default_factory=list)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "missing request body"),
        (b" \r\n\t", "missing request body"),
        (b"{", "the body is not JSON: Input data was truncated"),
        (b"{}x", "the body is not JSON"),
        (b"{'prompt': 1}", "the body is not JSON"),
        (b"[]", "the body should be a JSON object"),
        (b'"x"', "the body should be a JSON object"),
        (b"null", "the body should be a JSON object"),
        (b'{"prompt": NaN}', "the body is not JSON"),
        (b'{"prompt": 1e999}', "the body is not JSON: Number out of range"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "the body is not JSON: Integer value out of range"),
        (b'{"prompt": "\xff"}', "the body is not UTF-8: invalid start byte at byte 12"),
        (b'{"prompt": "\xc3"}', "the body is not UTF-8: invalid continuation byte at byte 12"),
        (b'{"prompt": "\xed\xa0\x80"}', "the body is not UTF-8"),
        (b'{"prompt": "\\ud800"}', "the body is not JSON"),
        (b"\xff\xfe{\x00}\x00", "the body is not UTF-8"),
        (b"\xef\xbb\xbf{}", "the body is not JSON"),
        (b'{"prompt": ' + b"[" * 60 + b"]" * 60 + b"}", "the body is nested deeper than 8 levels"),
        (b'{"prompt": ' + b'{"a":' * 9 + b"1" + b"}" * 9 + b"}", "the body is nested deeper than 8 levels"),
        (b"{}" * 3, "the body is not JSON"),
        (b"{}", "missing field `prompt`"),
        (b'{"prompt": 3}', "prompt: expected `str`, got `int`"),
        (b'{"prompt": "x", "seed": "3"}', "seed: expected `int | null`, got `str`"),
        (b'{"prompt": "x", "seed": 3.5}', "seed: expected `int | null`, got `float`"),
        (b'{"prompt": "x", "seed": true}', "seed: expected `int | null`, got `bool`"),
        (b'{"prompt": "x", "stop": ["a", 4]}', "stop[1]: expected `str`, got `int`"),
        (
            b'{"prompt": "x", "promt": "y"}',
            "promt: it is not supported here, and would change the answer: did you mean prompt?",
        ),
        (b'{"prompt": "x", "images": []}', "images: this model sees no images"),
    ],
)
def test_what_is_wrong_is_said_by_the_name_of_its_field(content: bytes, sentence: str) -> None:
    with pytest.raises(RequestInvalid) as raised:
        decode(content, Asked, LIMITS)
    assert str(raised.value).startswith(sentence)


def test_what_is_ignored_or_null_changes_nothing() -> None:
    asked = decode(b'{"prompt": "\\u0000x", "keep": 3, "images": null, "other": null, "seed": null}', Asked, LIMITS)
    assert asked == Asked(prompt="\0x")


def test_the_name_of_a_field_cannot_be_a_sentence_of_ours() -> None:
    with pytest.raises(RequestInvalid) as raised:
        decode(json.dumps({"prompt": "x", "a\n\x1b[31m" + "b" * 800: 1}).encode(), Asked, LIMITS)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 700


def test_depth_is_counted_to_its_limit() -> None:
    assert decode_json(b"[" * 9 + b"]" * 9, LIMITS)
    with pytest.raises(RequestInvalid, match="nested deeper than 8"):
        decode_json(b"[" * 10 + b"]" * 10, LIMITS)
    with pytest.raises(RequestInvalid, match="nested deeper than 64"):  # deeper than the reader's own stack
        decode_json(b"[" * 500_000 + b"]" * 500_000, Limits(items=1 << 20))


def test_items_are_counted_before_they_are_made() -> None:
    assert len(decode_json(b"[" + b"1," * 99 + b"1]", LIMITS)) == 100
    for many in (b"[" + b"1," * 100 + b"1]", b"[" + b"[]," * 50 + b"1]", b"[" + b"{}," * 50 + b"1]"):
        with pytest.raises(TooLarge, match="more than 100 commas and brackets"):
            decode_json(many, LIMITS)


def test_forms_and_templates_have_a_limit() -> None:
    check_form("format", None, LIMITS)
    check_form("format", {"type": "string"}, LIMITS)
    check_template("template", None, LIMITS)
    check_template("template", "{{ x }}" * 8, LIMITS)
    with pytest.raises(TooLarge, match="format is larger than"):
        check_form("format", {"enum": ["a" * 50]}, LIMITS)
    with pytest.raises(TooLarge, match="tools is larger than"):
        check_form("tools", [{"name": "x"}] * 10, LIMITS)
    with pytest.raises(TooLarge, match="template is larger than"):
        check_template("template", "ä" * 31, LIMITS)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(s='x' * 1000) %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{{ 2 ** 99999 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{{" + "(" * 9000 + "1" + ")" * 9000 + "}}",
        "{{ range(10**9)|list }}",
    ],
)
def test_a_template_of_a_request_does_no_harm(source: str) -> None:
    """Of those that are short enough. What the sandbox does is tested in its own tests: here, that it is asked."""
    check_template("template", source, Limits())
    with pytest.raises(TemplateInvalid):
        Template(source).render([{"role": "user", "content": "x"}])


# --- reading


def read(
    *pieces: bytes | None, headers: dict[str, str] | None = None, limits: Limits = LIMITS, intake: Intake | None = None
) -> bytes:
    """A body that comes in these pieces; None is the client's end. After the last piece nothing comes."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        piece = left.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": piece != b"."}

    async def reading() -> bytes:
        with (intake or Intake(1 << 20)).counted() as take:
            return await read_body(receive, headers or {}, limits, take)

    return asyncio.run(reading())


def test_a_body_is_read_to_its_end() -> None:
    assert read(b"abc", b"", b"def", b".") == b"abcdef."
    assert read(b"x" * 999, b".") == b"x" * 999 + b"."


@pytest.mark.parametrize(
    ("pieces", "headers", "kind"),
    [
        ((b"x" * 1001,), {}, TooLarge),
        ((b"x" * 600, b"x" * 600), {}, TooLarge),
        ((), {"content-length": "1001"}, TooLarge),
        ((b"x" * 1001,), {"content-length": "5"}, TooLarge),  # which the parser would not let through
        ((b"x" * 1001,), {"content-length": "many"}, TooLarge),
        ((b"x",), {}, TooSlow),
        ((), {}, TooSlow),
        ((b"x", None), {}, Gone),
        ((None,), {}, Gone),
    ],
)
def test_a_body_that_is_not_taken(
    pieces: tuple[bytes | None, ...], headers: dict[str, str], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        read(*pieces, headers=headers)


def test_bodies_are_counted_together_for_as_long_as_they_are_there() -> None:
    intake = Intake(1500)
    with intake.counted() as take:
        take(1000)
        with pytest.raises(Busy, match="other requests have large bodies"):
            read(b"x" * 501, b".", intake=intake)
        assert intake.taken == 1000
        assert read(b"x" * 499, b".", intake=intake)
    assert intake.taken == 0


def test_what_says_that_a_body_follows() -> None:
    assert not has_body({})
    assert not has_body({"content-length": "0"})
    assert has_body({"content-length": "1"})
    assert has_body({"transfer-encoding": "chunked"})


# --- through a server


def malformed() -> Iterator[bytes]:
    asked = json.dumps(body()).encode()
    yield from (b"", b"{", asked[:-1], asked + b"}", b"[" * 100_000, b"[]", b"null", b"\xff", b'{"prompt": "\xc3"}')
    yield from (b'{"prompt": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}", b'{"prompt": 1}', b'{"prompt": "x", "a": 1}')
    yield b'{"prompt": [' + b"0," * 1_000_001 + b"0]}"


@pytest.mark.parametrize("content", [*malformed()], ids=lambda content: repr(content[:20]))
def test_malformed_bodies_are_refused_and_the_connection_goes_on(content: bytes, tiny_live: Live) -> None:
    with httpx.Client() as client:
        answer = client.post(f"{tiny_live.url}/tiny", content=content)
        assert answer.status_code in (400, 413)
        assert answer.json()["tiny"]
        assert client.get(f"{tiny_live.url}/well").status_code == 200


def test_a_body_of_no_declared_kind_is_read_all_the_same(tiny_live: Live) -> None:
    """curl's says that it is a form."""
    asked = json.dumps(body(num_predict=1)).encode()
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-16"):
        with raw.connected(tiny_live.url) as one:
            one.sendall(raw.request("/tiny", asked, content_type=kind))
            assert raw.answer(one)[0] == 200


def test_a_get_may_have_a_body_that_nobody_reads(tiny_live: Live) -> None:
    with raw.connected(tiny_live.url) as one:
        one.sendall(raw.head("GET", "/well", content_length="2") + b"{}" + raw.head("GET", "/well"))
        assert [raw.answer(one)[0] for _ in range(2)] == [200, 200]
        one.sendall(raw.head("GET", "/well", content_length="100000"))
        assert raw.answer(one)[0] == 200
        assert raw.ended(one) == b""  # it will not wait for the rest
