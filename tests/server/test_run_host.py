"""The command line at a real server with nano: what it says there is what it says here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

import headrace
from headrace.connection import Server
from headrace.errors import ContextExceeded, ModelNotFound, RequestInvalid, ServerFailed
from headrace.events import Done, Event, Text, ToolCall, ToolResult
from headrace.keys import Key
from headrace.remote import RemoteModel
from headrace.server.guard import Doors
from headrace.tools.loop import Tool, toolbox_of
from tests.server.live import Live, running
from tests.server.tiny import gated

HEADRACE = [sys.executable, "-c", "from headrace.cli import main; main()"]
WAIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def _ollama(live: Live) -> None:
    if httpx.post(f"{live.url}/api/chat", json={}).status_code == 404:
        pytest.skip("this server has no /api/chat yet")


@pytest.fixture(scope="module")
def model() -> Iterator[headrace.Model]:
    with headrace.load("nano") as one:
        yield one


@pytest.fixture
def remote(live: Live) -> Iterator[RemoteModel]:
    with closing(RemoteModel(Server(live.url), "nano")) as one:
        yield one


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADRACE, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def said(events: list[Event]) -> list[Any]:
    """What two answers have in common that say the same: not how it was cut into pieces, nor the ids of calls."""
    parts: list[Any] = ["".join(event.text for event in events if isinstance(event, Text))]
    parts += [(call.name, call.arguments) for call in events if isinstance(call, ToolCall)]
    parts += [(result.name, result.content, result.error) for result in events if isinstance(result, ToolResult)]
    (done,) = (event for event in events if isinstance(event, Done))
    usage = done.usage
    return [*parts, done.reason, usage.prompt_tokens, usage.completion_tokens, done.warnings, done.dropped]


# Ollama's API has schemas in an object of their own, and the template shows them as they came.
AS_SENT = [
    Tool({"type": "function", "function": tool.schema}, tool.run, safe=True)
    for tool in toolbox_of("builtin").runnable.values()
]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "company": {"type": "string"}},
    "required": ["name", "company"],
    "additionalProperties": False,
}
EXTRACTION = "Extract name, company as JSON from this text: Ada Byron works for Analytical Engines."


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("What is 37 * 12?", {"tools": "builtin", "run_tools": True}),
        ("What is 37 * 12?", {"tools": "builtin"}),
        ("What is the capital of France?", {}),
        (EXTRACTION, {"format": SCHEMA}),
        (EXTRACTION, {"format": "json"}),
        ("Hello", {"temperature": 2.0, "seed": 7, "num_predict": 12, "top_k": 40}),
        ("Hello", {"num_predict": 3}),
    ],
)
def test_the_answer_is_that_of_a_model_here(
    question: str, options: dict[str, Any], model: headrace.Model, remote: RemoteModel
) -> None:
    messages = [{"role": "user", "content": question}]
    here = options | ({"tools": AS_SENT} if "tools" in options else {})
    assert said(list(remote.chat(messages, **options))) == said(list(model.chat(messages, **here)))


def test_a_conversation_goes_on_after_calls(model: headrace.Model, remote: RemoteModel) -> None:
    transcript = headrace.Transcript([{"role": "user", "content": "What is 37 * 12?"}])
    for event in model.chat(list(transcript.messages), tools="builtin", run_tools=True):
        transcript.add(event)
    messages = [*transcript.messages, {"role": "user", "content": "What is 6 * 7?"}]
    here = list(model.chat(messages, tools=AS_SENT, run_tools=True))
    there = list(remote.chat(messages, tools="builtin", run_tools=True))
    assert said(there) == said(here)
    assert "42" in said(there)[0]


def test_what_is_read_again_is_found(remote: RemoteModel) -> None:
    text = "Count the words: " + "one two three " * 40
    first, second = (list(remote.chat([{"role": "user", "content": text}], num_predict=1)) for _ in range(2))
    assert isinstance(first[-1], Done)
    assert isinstance(second[-1], Done)
    assert second[-1].usage.cached_tokens >= 64


def test_a_small_window(live: Live) -> None:
    turns = [{"role": role, "content": f"{number} " * 40} for number in range(6) for role in ("user", "assistant")]
    messages = [*turns, {"role": "user", "content": "Hello"}]
    with closing(RemoteModel(Server(live.url), "nano", num_ctx=256)) as remote:
        with pytest.raises(RequestInvalid, match="context"):
            list(remote.chat(messages))
        done = list(remote.chat(messages, context="shift", num_predict=4))[-1]
        assert isinstance(done, Done)
        assert done.dropped
        assert done.dropped.messages > 0
        assert remote.num_ctx == 256


@pytest.mark.parametrize("context", ["error", "shift", "truncate"])
@pytest.mark.parametrize("turns", [1, 13])
def test_what_does_not_fit_fares_as_it_does_here(turns: int, context: str, live: Live) -> None:
    """One turn that is too long alone is what shift and truncate differ in."""
    text = "What is the time? " * (12 if turns > 1 else 200)
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number in range(turns)]
    options: dict[str, Any] = {"context": context, "num_predict": 4}
    told = list[Any]()
    with headrace.load("nano", num_ctx=256) as here, closing(RemoteModel(Server(live.url), "nano", 256)) as there:
        for model in (here, there):
            try:
                told.append(said(list(model.chat(messages, **options))))
            except (RequestInvalid, ContextExceeded):
                told.append("refused")
    assert told[0] == told[1]
    assert (told[0] == "refused") == (context == "error" or (context == "shift" and turns == 1))


def test_what_is_shown(remote: RemoteModel, model: headrace.Model) -> None:
    assert remote.template == model.checkpoint.template.source
    assert not remote.can_think
    assert remote.parameters["temperature"] == "0"


def test_what_cannot_be_asked_has_its_sentence(live: Live, remote: RemoteModel) -> None:
    with closing(Server(live.url)) as server, pytest.raises(ModelNotFound, match=r"no model 'nonesuch'.*it has .*nano"):
        RemoteModel(server, "nonesuch")
    with pytest.raises(RequestInvalid, match="thinking"):
        list(remote.chat([{"role": "user", "content": "Hi"}], think=True))


def test_leaving_an_answer_frees_what_it_holds_at_the_server(live: Live, remote: RemoteModel) -> None:
    events = remote.chat([{"role": "user", "content": "Hello"}], temperature=100.0, repeat_penalty=1.2)
    next(events)
    assert live.house.serving.in_flight == 1
    del events
    until(lambda: live.house.serving.in_flight == 0)


def test_a_server_that_goes_down_says_so_in_mid_answer() -> None:
    """As it goes down when it is told to end; the gate keeps the answer from being over before that."""
    with (
        running(grace_s=0) as own,
        gated(own.house) as gate,
        closing(RemoteModel(Server(own.url), "nano")) as remote,
    ):
        events = remote.chat([{"role": "user", "content": "What is the capital of France?"}])
        gate.permits.release(5)  # of some dozens of steps
        assert isinstance(next(events), Text)
        own.server.should_exit = True
        with pytest.raises(ServerFailed, match="shutting down"):
            list(events)


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable as the server has it is that of its clients, too."""
    with running(doors=Doors([Key("secret", frozenset({"infer"})), Key("other")])) as own:
        assert run("ps", "--host", own.url).returncode == 2
        monkeypatch.setenv("HEADRACE_API_KEY", "secret:infer other")
        assert run("ps", "--host", own.url).returncode == 0
        with closing(RemoteModel(Server(own.url, "secret"), "nano")) as remote:
            assert list(remote.chat([{"role": "user", "content": "Hi"}], num_predict=1))


# --- the commands


def test_one_answer_with_the_call_beside_it(live: Live) -> None:
    done = run("run", "--host", live.url, "nano", "What is 37 * 12?", "--verbose")
    assert done.returncode == 0
    assert "444" in done.stdout
    assert 'calculate(expression="37 * 12")' in done.stderr
    assert "tokens/s" in done.stderr
    here = run("run", "nano", "What is 37 * 12?")
    assert done.stdout == here.stdout


def test_ps_and_stop() -> None:
    with running() as own:
        assert json.loads(run("ps", "--json", "--host", own.url).stdout) == []
        assert run("stop", "nano", "--host", own.url).stdout == "nano was not loaded.\n"
        assert run("run", "nano", "Hi", "--keep-alive", "-1", "--host", own.url).returncode == 0
        until(lambda: own.house.serving.models.list()[0].in_flight == 0)
        (facts,) = json.loads(run("ps", "--json", "--host", own.url).stdout)
        assert (facts["name"], facts["state"], facts["num_ctx"]) == ("nano:latest", "loaded", 4096)
        assert facts["size_bytes"] > 10**7
        assert (facts["in_flight"], facts["running"], facts["waiting"]) == (0, 0, 0)
        assert 0 < facts["cache_bytes"] < facts["cache_capacity_bytes"]
        assert facts["until"] is None
        assert "for ever" in run("ps", "--host", own.url).stdout
        assert run("stop", "NANO:latest", "--host", own.url).stdout == "Stopped NANO:latest.\n"
        until(lambda: not own.house.serving.models.list())
        assert run("stop", "nonesuch", "--host", own.url).returncode == 2
