"""Streams of chat completions, byte for byte but for what differs each time."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from headrace.server.lines import one_line, server_sent
from tests.server.live import Live
from tests.server.openai_clients import CALCULATE, HI, SUM

HEAD = '{"id":"ID","object":"chat.completion.chunk","created":0,"model":"nano","system_fingerprint":"FP","choices":'


def stream_of(live: Live, body: dict[str, Any]) -> list[str]:
    answer = httpx.post(f"{live.url}/v1/chat/completions", json={"model": "nano", "stream": True, **body})
    text = answer.text
    for pattern, mask in (
        (r'"id":"chatcmpl-[0-9a-f]{24}"', '"id":"ID"'),
        (r'"created":\d{10}', '"created":0'),
        (r'"system_fingerprint":"fp_[0-9a-f]{12}"', '"system_fingerprint":"FP"'),
        (r'"id":"call_[0-9a-f]{24}"', '"id":"CALL"'),
        (r'"timings":\{[^}]*\}', '"timings":{}'),
        (r'"cached_tokens":\d+', '"cached_tokens":0'),
    ):
        text = re.sub(pattern, mask, text)
    return text.split("\n\n")


def chunk(choice: str, more: str = "") -> str:
    return f"data: {HEAD}[{choice}]{more}}}"


def delta(inner: str, reason: str = "null") -> str:
    return f'{{"index":0,"delta":{inner},"logprobs":null,"finish_reason":{reason}}}'


def call(inner: str) -> str:
    return delta(f'{{"tool_calls":[{{"index":0,{inner}}}]}}')


def test_text(live: Live) -> None:
    assert stream_of(live, {"messages": HI, "max_tokens": 2}) == [
        chunk(delta('{"role":"assistant","content":"","refusal":null}')),
        chunk(delta('{"content":"Hello"}')),
        chunk(delta('{"content":"!"}')),
        chunk(delta("{}", '"length"'), ',"timings":{},"headrace":{"reason":"length"}'),
        "data: [DONE]",
        "",
    ]


def test_a_call_and_usage(live: Live) -> None:
    body = {"messages": SUM, "tools": [CALCULATE], "stream_options": {"include_usage": True}}
    usage = (
        ',"usage":{"prompt_tokens":84,"completion_tokens":15,"total_tokens":99,'
        '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
        '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    )
    null = ',"usage":null'
    assert stream_of(live, body) == [
        chunk(delta('{"role":"assistant","content":null,"refusal":null}'), null),
        chunk(call('"id":"CALL","type":"function","function":{"name":"calculate","arguments":""}'), null),
        chunk(call('"function":{"arguments":"{"}'), null),
        chunk(call(r'"function":{"arguments":"\"expression\": "}'), null),
        chunk(call(r'"function":{"arguments":"\"37 * 12\""}'), null),
        chunk(call('"function":{"arguments":"}"}'), null),
        chunk(delta("{}", '"tool_calls"'), null),
        chunk("", usage + ',"timings":{},"headrace":{"reason":"tool_calls","forced_tokens":5}'),
        "data: [DONE]",
        "",
    ]


def test_probabilities_come_with_their_text(live: Live) -> None:
    frames = stream_of(live, {"messages": HI, "max_tokens": 1, "logprobs": True})
    told = re.sub(r"-?\d\.\d+(e-\d+)?", "P", frames[1])
    hello = '{"token":"Hello","logprob":P,"bytes":[72,101,108,108,111],"top_logprobs":[]}'
    assert told == chunk(
        f'{{"index":0,"delta":{{"content":"Hello"}},"logprobs":{{"content":[{hello}],"refusal":null}},"finish_reason":null}}'
    )


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_nothing_in_a_text_ends_its_line(end: str) -> None:
    """Python's splitlines, and so httpx's iter_lines, know many ends of lines."""
    assert len(one_line({"a": f"x{end}y"}).decode().splitlines()) == 1
    assert server_sent(f"x{end}y").decode().splitlines() == [server_sent(f"x{end}y").decode().rstrip("\n"), ""]
