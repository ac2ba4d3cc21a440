"""One line for each request; nothing of what was said, unless that was chosen; and nobody forges one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.events import Done, Reason, Timings, Usage
from headrace.server.log import Form, Lines
from headrace.server.openai.facts import Facts
from tests.server import raw, tiny
from tests.server.live import Live, running
from tests.server.tiny import gated, leases, post, until


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def facts(self) -> list[dict[str, Any]]:
        return [record.facts for record in self.records if hasattr(record, "facts")]

    def lines(self, form: Form = "text") -> list[str]:
        return [Lines(form).format(record) for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger("headrace")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def telling() -> Iterator[Live]:
    """A server that logs what is said."""
    with running(log_prompts=True) as live:
        yield live


def of(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "ms"}


def test_a_line_says_what_was_asked_for_and_what_became_of_it(tiny_live: Live, kept: Kept) -> None:
    post(tiny_live.url, prompt="Kept to ourselves", num_predict=2)
    httpx.get(f"{tiny_live.url}/nowhere?key=secret", headers={"Authorization": "Bearer secret", "X-Api-Key": "secret"})
    until(lambda: len(kept.facts()) == 2)
    first, second = kept.facts()
    assert of(first) == {"client": "127.0.0.1", "method": "POST", "path": "/tiny", "status": 200, "model": "nano"}
    assert of(second) == {"client": "127.0.0.1", "method": "GET", "path": "/nowhere", "status": 404}
    assert first["ms"] > 0
    for line in [*kept.lines(), *kept.lines("json")]:
        assert "ourselves" not in line
        assert "secret" not in line


HI = [{"role": "user", "content": "Hi"}]
GREETED = {"messages": HI, "temperature": 0}
SHORT = {"options": {"num_predict": 2, "temperature": 0}}
TWO = {"prompt": ["One, two,", "Hi"], "n": 2, "max_tokens": 2, "temperature": 0}
ANSWERED: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat of Ollama's": ("/api/chat", {"messages": HI, "options": {"temperature": 0}}, "stop"),
    "generate": ("/api/generate", {"prompt": "Hi", "stream": False, **SHORT}, "length"),
    "chat of OpenAI's": ("/v1/chat/completions", GREETED, "stop"),
    "its stream": ("/v1/chat/completions", {**GREETED, "stream": True, "max_tokens": 2}, "length"),
    "completions": ("/v1/completions", TWO, "length"),
}


@pytest.mark.parametrize(("path", "given", "reason"), ANSWERED.values(), ids=ANSWERED)
def test_an_answers_line_says_why_it_ended(
    path: str, given: dict[str, Any], reason: str, live: Live, kept: Kept
) -> None:
    assert httpx.post(live.url + path, json={"model": "nano", **given}, timeout=60).status_code == 200
    until(kept.facts)
    (facts,) = kept.facts()
    assert (facts["model"], facts["reason"], facts["stream"]) == ("nano", reason, given.get("stream", "api" in path))
    assert facts["prompt_tokens"] > 0
    assert facts["completion_tokens"] > 0


def test_of_several_answers_each_reason_is_said_once() -> None:
    def ended(reason: Reason) -> Done:
        return Done(reason, Usage(1, 1), Timings(0, 0, 0, 0))

    facts = Facts(3, 0.0, [ended("stop"), ended("length"), ended("stop")], None)
    assert facts.reason == "length,stop"


OF_A_MODEL: dict[str, dict[str, Any] | None] = {
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [5]},
    "/tokenizer_info": None,
    "/apply-template": {"messages": HI},
    "/v1/embeddings": {"model": "Nano", "input": "Hi"},
    "/v1/models/NANO": None,
    "/api/show": {"model": "nano:latest"},
    "/api/pull": {"model": "nano"},
    "/api/embed": {"model": "nano", "input": "Hi"},
    "/api/embeddings": {"model": "nano", "prompt": "Hi"},
    "/api/delete": {"model": "nano"},
}


@pytest.mark.parametrize("path", OF_A_MODEL)
def test_whatever_is_about_a_model_says_which(path: str, live: Live, kept: Kept) -> None:
    given = OF_A_MODEL[path]
    httpx.request("DELETE" if "delete" in path else "POST" if given else "GET", live.url + path, json=given)
    until(kept.facts)
    assert kept.facts()[0]["model"] == "nano"


def test_a_model_that_is_not_there_is_in_no_line(live: Live, kept: Kept) -> None:
    httpx.post(f"{live.url}/tokenize", json={"prompt": "Hi", "model": "secret"})
    until(kept.facts)
    assert "model" not in kept.facts()[0]


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/api/chat", {"messages": HI, **SHORT}),
        ("/v1/chat/completions", {"messages": HI, "max_tokens": 2}),
        ("/v1/completions", {"prompt": "Hi", "max_tokens": 2}),
        ("/v1/embeddings", {"input": "Hi"}),
        ("/api/embed", {"input": "Hi"}),
        ("/tokenize", {"prompt": "Hi"}),
    ],
)
def test_what_was_asked_is_said_once(path: str, given: dict[str, Any], kept: Kept, telling: Live) -> None:
    body = {"model": "nano", "stop": "unheard of"} if "completions" in path else {"model": "nano"}
    answer = httpx.post(telling.url + path, json={**body, **given}, timeout=60)
    assert answer.status_code == 200
    until(kept.facts)
    (facts,) = kept.facts()
    assert json.loads(facts["asked"]) == {**body, **given}
    assert facts["answered"] == answer.text
    asked = [name for name, value in facts.items() if name != "answered" and "Hi" in str(value)]
    assert asked == ["asked"]


def test_prompts_and_answers_by_choice(kept: Kept) -> None:
    with running(tiny.routes, log_prompts=True) as live:
        answer = post(live.url, prompt="Told\nto all", num_predict=2, stream=True).text
        httpx.post(f"{live.url}/tiny", content=b"x" * 100_000)
        until(lambda: len(kept.facts()) == 2)
    first, second = kept.facts()
    assert json.loads(first["asked"])["prompt"] == "Told\nto all"
    assert first["answered"] == answer
    assert second["asked"] == "x" * (64 << 10)
    assert len(kept.lines()[0].splitlines()) == 1


def test_who_went_away_is_said_to_have(tiny_live: Live, kept: Kept) -> None:
    with gated(tiny_live.house) as gate:
        with raw.connected(tiny_live.url) as one:
            one.sendall(raw.request("/tiny", tiny.body()))
            assert gate.waiting.wait(20)
        until(lambda: leases(tiny_live.house) == 0)
        gate.permits.release(1)
    until(kept.facts)
    assert kept.facts()[0]["status"] == 499
    assert kept.facts()[0]["gone"] is True


# --- forging

FORGED = "/x\n2026-01-01T00:00:00.000+00:00 info request method=GET path=/admin status=200"


@pytest.mark.parametrize(
    "path", [FORGED, '/x" status=200', "/x status=200", "/\x1b[2J", "/\u2028x", "/\x85\x9b31m", "/ä"]
)
def test_a_path_stays_one_word(path: str, tiny_live: Live, kept: Kept) -> None:
    httpx.get(tiny_live.url + "".join(f"%{byte:02x}" if byte != 0x2F else "/" for byte in path.encode()))
    until(kept.facts)
    assert kept.facts()[0]["path"] == path
    (line,) = kept.lines()
    assert line.isprintable()
    quoted = line.split(" path=", 1)[1].rpartition(" status=")[0]
    assert (json.loads(quoted) if quoted.startswith('"') else quoted) == path
    (line,) = kept.lines("json")
    assert line.isprintable()
    assert json.loads(line)["path"] == path


def test_a_long_path_is_cut(tiny_live: Live, kept: Kept) -> None:
    httpx.get(f"{tiny_live.url}/{'a' * 20_000}")
    until(kept.facts)
    assert kept.facts()[0]["path"] == "/" + "a" * 199


def test_an_errors_own_text_is_no_line(tiny_live: Live, kept: Kept) -> None:
    post(tiny_live.url, bug="handle", prompt="\x1b[31m")
    until(kept.facts)
    record = next(record for record in kept.records if record.exc_info)
    first, *others = Lines("text").format(record).splitlines()
    assert "something went wrong inside Headrace" in first
    assert any("info forged" in line for line in others)
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert "ZeroDivisionError" in json.loads(Lines("json").format(record))["trace"]


def test_lines_of_json_are_whole(kept: Kept) -> None:
    logging.getLogger("headrace.server").info("odd", extra={"facts": {"what": b"\xff", "empty": "", "n": 3}})
    (line,) = kept.lines("json")
    said = json.loads(line)
    assert {name: said[name] for name in ("level", "event", "n", "empty")} == {
        "level": "info",
        "event": "odd",
        "n": 3,
        "empty": "",
    }
    (line,) = kept.lines()
    assert line.endswith(' info odd what="\\"b\'\\\\\\\\xff\'\\"" empty="" n=3')
