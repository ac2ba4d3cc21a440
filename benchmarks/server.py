"""`python -m benchmarks.server`: a real `headrace serve` under load, and what HTTP costs beside the Python API.

On nano, whose steps are so short that everything around them shows. The load is that of tests/server: 64 clients, 2,000
requests of both dialects, a third of which are left at some moment, and 50 malformed ones; each answer is compared with
that to the same request alone. llama-server reads the same file where `--llama-server` names it. `--write` puts the
table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

import headrace
from benchmarks import page
from headrace import nano
from tests.server import load, process

CLIENTS, REQUESTS, LEFT, MALFORMED = 64, 2000, 1 / 3, 50
BODY_BYTES = 1 << 20
ROUNDS, TOKENS = 9, 160  # of answers whose tokens are timed, in turn
CONNECTIONS, ONE_TOKEN_REQUESTS = 8, 800
STARTS_S = 60.0
ENDS = "<!-- server: written by benchmarks/server.py -->", "<!-- end of server -->"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
# Greedy, and too long to end by itself within TOKENS.
MESSAGES = [{"role": "user", "content": "Tell me all that you can do, one thing after another."}]
LONG: dict[str, Any] = {"temperature": 0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--llama-server", help="the program, to be measured on the same file")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args()
    rows = [*of_load(), *of_tokens(), *of_requests(options.llama_server)]
    body = "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)])
    print(body)
    if options.write:
        page.replace(PAGE, ENDS, body)


def of_load() -> Iterator[tuple[str, str]]:
    wanted, bad = load.asks(1, REQUESTS), load.bad_requests(MALFORMED, BODY_BYTES)
    with process.serving("--max-body", str(BODY_BYTES)) as served:
        began = time.perf_counter()
        told = asyncio.run(load.load(served.url, wanted, CLIENTS, LEFT, bad, seed=2))
        seconds = time.perf_counter() - began
        left = httpx.get(f"{served.url}/health").status_code
    assert left == 200
    statuses = ", ".join(f"{count:,} times {status}" for status, count in sorted(told.statuses.items()))
    refused = ", ".join(f"{count} times {status or 'closed'}" for status, count in sorted(told.malformed.items()))
    yield f"{REQUESTS:,} requests of {CLIENTS} clients, {told.left:,} of them left", f"{statuses}; {seconds:.0f} s"
    yield "answers that differ from those to the same requests alone", str(len(told.wrong))
    yield f"{MALFORMED} malformed requests", refused


def of_tokens() -> Iterator[tuple[str, str]]:
    """Milliseconds a token, in turn: the engine is the same, in this process and in the server's."""
    ways: dict[str, list[float]] = {"Python": [], "/v1/chat/completions": [], "/api/chat": []}
    with headrace.load("nano") as model, process.serving() as served, httpx.Client(base_url=served.url) as client:
        for _ in range(ROUNDS + 1):  # the first is a warm-up
            ways["Python"].append(_timed(_of_model(model)))
            body = {"model": "nano", "messages": MESSAGES, "stream": True, **LONG}
            ways["/v1/chat/completions"].append(_timed(_streamed(client, "/v1/chat/completions", body)))
            body = {"model": "nano", "messages": MESSAGES, "options": LONG}
            ways["/api/chat"].append(_timed(_streamed(client, "/api/chat", body)))
    figures = {way: median(times[1:]) for way, times in ways.items()}
    for way, ms in figures.items():
        beside = "" if way == "Python" else f", {1000 * (ms - figures['Python']):+.0f} us"
        yield f"a token of one answer, {'in process' if way == 'Python' else way}", f"{ms:.2f} ms{beside}"


def _timed(pieces: Iterator[Any]) -> float:
    """From the first piece to the last."""
    next(pieces)
    began, count = time.perf_counter(), 0
    for _ in pieces:
        count += 1
    return 1000 * (time.perf_counter() - began) / count


def _of_model(model: headrace.Model) -> Iterator[Any]:
    return (event for event in model.chat(MESSAGES, **LONG) if isinstance(event, headrace.Text))


def _streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> Iterator[Any]:
    with client.stream("POST", path, json=body, timeout=STARTS_S) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                yield line


def of_requests(llama_server: str | None) -> Iterator[tuple[str, str]]:
    what = f"requests a second with one-token answers, {CONNECTIONS} connections"
    with process.serving() as served:
        yield what, f"{asyncio.run(_one_token_answers(served.url)):.0f}"
    if llama_server is None:
        yield f"{what}, llama-server", "not measured"
        return
    with _llama(llama_server) as url:
        yield f"{what}, llama-server", f"{asyncio.run(_one_token_answers(url)):.0f}"


@contextmanager
def _llama(program: str) -> Iterator[str]:
    port = 18431
    command: Sequence[str] = [program, "-m", str(nano.FILE), "--port", str(port), "-np", str(CONNECTIONS)]
    url = f"http://127.0.0.1:{port}"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + STARTS_S
        while True:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                assert running.poll() is None, "llama-server ended"
            assert time.monotonic() < end, "llama-server does not answer"
            time.sleep(0.2)
        yield url
    finally:
        running.terminate()
        running.wait()


async def _one_token_answers(url: str) -> float:
    """Each with a prompt of its own, so that nothing is found in a cache but its beginning."""
    left = iter(range(ONE_TOKEN_REQUESTS))
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=STARTS_S) as client:

        async def ask(number: int) -> None:
            messages = [{"role": "user", "content": f"What is {number} + {number}?"}]
            body = {"model": "nano", "messages": messages, "max_tokens": 1, "temperature": 0}
            answer = await client.post("/v1/chat/completions", content=json.dumps(body))
            assert answer.status_code == 200, answer.text

        async def work() -> None:
            for number in left:
                await ask(number)

        await ask(ONE_TOKEN_REQUESTS)  # the model is loaded now
        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return ONE_TOKEN_REQUESTS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
