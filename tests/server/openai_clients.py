"""What the tests of OpenAI's API share: its official client on a live server, and streams put together again."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai

from headrace import nano

CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Evaluate an arithmetic expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SUM = [{"role": "user", "content": "What is 37 * 12?"}]
HI = [{"role": "user", "content": "Hi"}]
VAGUE = [{"role": "user", "content": "Zoltan fimble 7, or the river? Never mind."}]  # nano is not sure what to say
WHO = [
    {
        "role": "user",
        "content": "Extract name, company as JSON from this text: Jane Smith works at Acme Corp as an engineer.",
    }
]
VARYING = {"id": "ID", "created": 0, "system_fingerprint": "FP", "timings": "MS"}


@contextmanager
def client_of(url: str, **options: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, **options) as client:
        yield client


def frames(url: str, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of a stream, all of them as the specification has them; the last one is "[DONE]"."""
    answer = httpx.post(f"{url}/v1/{path}", json={"model": "nano", **body, "stream": True}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    data = [event.removeprefix("data: ") for event in events]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def masked(value: Any) -> Any:
    """Without what differs from one answer to the next."""
    match value:
        case dict():
            return {key: VARYING[key] if key in VARYING else masked(item) for key, item in value.items()}
        case list():
            return [masked(item) for item in value]
    return value


def thinker(folder: Path) -> Path:
    """nano with the two tokens between which models think, which it has no use for, in place of others."""
    was = (b"<|fim_pre|>", b"<|fim_mid|>", b"<|fim_suf|>")
    now = (b"<think>", b"</think>", b"<|nothing_at_all|>")
    old, new = (b"".join(struct.pack("<Q", len(name)) + name for name in names) for names in (was, now))
    whole = nano.FILE.read_bytes()
    assert whole.count(old) == 1
    path = folder / "thinker.gguf"
    path.write_bytes(whole.replace(old, new))
    return path
