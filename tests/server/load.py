"""Many clients at once: good ones, hasty ones that go away, and malformed ones; what each was told, and what it left.

What is asked, who goes away, and when, follow from a seed.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.server import raw

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
CALCULATE = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Calculates.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
QUESTIONS = ("Hi", "What is 37 * 12?", "Who are you?", "Extract name as JSON from this text: Ada is here.", "Thanks!")
LIMIT_S = 120  # for one answer: far more than any takes
MOST_PIECES = 3  # of a stream, after which whoever goes away does; of a whole answer it waits for a moment
LONGEST_PATIENCE_S = 0.05


@dataclass(frozen=True, slots=True)
class Ask:
    path: str
    body: dict[str, Any]

    @property
    def stream(self) -> bool:
        return bool(self.body["stream"])


@dataclass(slots=True)
class Told:
    """What clients were told. `wrong` are answers that differ from those to the same requests alone."""

    statuses: Counter[int] = field(default_factory=Counter)
    malformed: Counter[int] = field(default_factory=Counter)  # 0: the connection was closed without an answer
    left: int = 0  # who went away before the end
    wrong: list[tuple[Ask, str, str]] = field(default_factory=list)
    without_retry: int = 0  # 503s that do not say when to come again


def asks(seed: int, count: int) -> list[Ask]:
    """Of both dialects, in streams and whole, greedy and drawn, with tools and schemas, among them some twice."""
    return [_ask(random.Random(f"{seed}/{number % max(8, count // 4)}")) for number in range(count)]


def _ask(rng: random.Random) -> Ask:
    question, stream, most = rng.choice(QUESTIONS), rng.random() < 0.6, rng.randrange(4, 25)
    temperature, seed = rng.choice((0, 1)), rng.randrange(1000)
    messages = [{"role": "user", "content": question}]
    drawn = {"temperature": temperature, "seed": seed}
    extra: dict[str, Any] = {"tools": [CALCULATE]} if rng.random() < 0.3 else {}
    match rng.randrange(4):
        case 0:
            form = {"format": SCHEMA} if rng.random() < 0.2 else {}
            body = {"prompt": question, **form, "options": {**drawn, "num_predict": most}}
            return Ask("/api/generate", {"model": "nano", "stream": stream, **body})
        case 1:
            body = {"messages": messages, **extra, "options": {**drawn, "num_predict": most}}
            return Ask("/api/chat", {"model": "nano", "stream": stream, **body})
        case 2:
            body = {"messages": messages, **extra, **drawn, "max_tokens": most}
            return Ask("/v1/chat/completions", {"model": "nano", "stream": stream, **body})
    return Ask("/v1/completions", {"model": "nano", "stream": stream, "prompt": question, **drawn, "max_tokens": most})


def said(ask: Ask, answer: str) -> str:
    """The text and the calls of an answer, however it came; without what differs each time."""
    if not ask.stream:
        frames = [json.loads(answer)]
    elif ask.path.startswith("/v1"):
        lines = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]", answer[-300:]
        frames = [json.loads(line) for line in lines[:-1]]
    else:
        frames = [json.loads(line) for line in answer.splitlines()]
        assert frames[-1]["done"], answer[-300:]
    assert not any("error" in frame for frame in frames), answer[-300:]
    return "".join(piece for frame in frames for piece in _pieces(frame))


def _pieces(frame: dict[str, Any]) -> Iterator[str]:
    yield str(frame.get("response") or "")
    parts = [frame["message"]] if "message" in frame else []
    parts += [
        choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
        for choice in frame.get("choices", ())
    ]
    for part in parts:
        yield str(part.get("content") or "")
        for call in part.get("tool_calls") or ():
            arguments = call["function"].get("arguments", "")
            yield call["function"].get("name") or ""
            yield arguments if isinstance(arguments, str) else json.dumps(arguments)


async def alone(url: str, wanted: Sequence[Ask]) -> dict[str, str]:
    """The answer to each request while nobody else asks, by its JSON."""
    answers = dict[str, str]()
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
        for ask in wanted:
            if (key := json.dumps((ask.path, ask.body))) not in answers:
                answer = await client.post(ask.path, json=ask.body)
                assert answer.status_code == 200, answer.text
                answers[key] = said(ask, answer.text)
    return answers


async def load(url: str, wanted: Sequence[Ask], clients: int, hasty: float, bad: Sequence[bytes], seed: int) -> Told:
    """So many clients ask it all, of whom a share of `hasty` ones goes away; `bad` requests come in between."""
    told, answers = Told(), await alone(url, wanted)
    rng = random.Random(seed)
    work = list[tuple[Ask | bytes, float | None]]()
    work += [(ask, rng.random() if rng.random() < hasty else None) for ask in wanted]
    for one in bad:
        work.insert(rng.randrange(len(work) + 1), (one, None))
    queue = iter(work)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S, limits=limits) as client:

        async def work_off() -> None:
            for ask, patience in queue:
                if isinstance(ask, bytes):
                    told.malformed[await malformed(url, ask)] += 1
                elif patience is not None and await _leaves(client, ask, patience):
                    told.left += 1
                else:
                    await _one(client, ask, answers, told)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(work_off())
    return told


async def _leaves(client: httpx.AsyncClient, ask: Ask, patience: float) -> bool:
    """Asks, and goes away before the end of the answer; False if that came first. `patience` is from 0 to 1."""
    if not ask.stream:
        try:
            async with asyncio.timeout(patience * LONGEST_PATIENCE_S):
                await client.post(ask.path, json=ask.body)
        except TimeoutError:
            return True
        return False
    async with client.stream("POST", ask.path, json=ask.body) as answer:
        count = 0
        async for _ in answer.aiter_raw():
            if count == int(patience * MOST_PIECES):
                return True
            count += 1
    return False


async def _one(client: httpx.AsyncClient, ask: Ask, answers: dict[str, str], told: Told) -> None:
    answer = await client.post(ask.path, json=ask.body)
    told.statuses[answer.status_code] += 1
    if answer.status_code == 503 and "retry-after" not in answer.headers:
        told.without_retry += 1
    if answer.status_code == 200:
        expected, got = answers[json.dumps((ask.path, ask.body))], said(ask, answer.text)
        if got != expected:
            told.wrong.append((ask, expected, got))


STALLS = b"<stalls>"  # at the end of what is sent by whoever then sends nothing more


def bad_requests(count: int, body_bytes: int) -> list[bytes]:
    """Of every kind, in turn; `body_bytes` is the server's limit."""
    path = "/v1/chat/completions"
    deep = b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    kinds = [
        raw.head("POST", path, content_length=str(body_bytes + 1)),
        raw.head("POST", path, transfer_encoding="chunked") + b"%x\r\n" % (body_bytes + 1) + b" " * (body_bytes + 1),
        raw.request(path, deep),
        raw.request("/api/chat", deep),
        raw.request(path, {"messages": "Hi", "model": "nano"}),
        raw.request("/api/generate", {"model": 7, "prompt": ["x"]}),
        raw.request("/api/chat", b'{"model": "nano", "messages": [{"role": "user", "content": "\xff\xfe"}]}'),
        raw.request(path, b"{not JSON"),
        raw.request("/api/embed", b""),
        raw.request(path, {"model": "nano", "messages": [], "temperature": "hot"}),
        raw.request("/v1/completions", {"model": "nobody", "prompt": "x"}),
        raw.head("POST", path, content_length="100") + b'{"model": ' + STALLS,
        b"POST /api/chat HTTP/1.1\r\nHost: loc" + STALLS,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all\r\n\r\n",
        raw.request(path, {"model": "nano", "messages": [{"role": "user", "content": "Hi"}], "format": "x" * 400_000}),
    ]
    return [kinds[number % len(kinds)] for number in range(count)]


async def malformed(url: str, content: bytes) -> int:
    """The status, or 0 where the connection was closed without one."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(LIMIT_S):
            writer.write(content.removesuffix(STALLS))
            line = await reader.readline()
    except ConnectionError:
        return 0
    finally:
        writer.close()
    return int(line.split()[1]) if line else 0
