"""How a server begins and ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from headrace.server import start
from headrace.server.start import listen
from tests.server import raw, tiny
from tests.server.live import running
from tests.server.process import COMMAND, environment, serving
from tests.server.tiny import body, gated, leases, post, until

# nano, whose steps take a while, and the routes of the tests.
SLOW = """
import time
from headrace.engine.engine import Engine
from headrace.server import app, tokens
from tests.server import tiny
step = Engine._step
Engine._step = lambda self, parts: (time.sleep(0.05), step(self, parts))[1]
tokens.routes = tiny.routes
from headrace.cli import main
main()
"""


# --- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    with serving() as one:
        assert httpx.get(f"{one.url}/health").json() == {"status": "ok"}
        one.process.send_signal(number)
        assert one.ended() == 0
        until(lambda: one.lines and one.lines[-1].endswith("info ended\n"))
        assert not [line for line in one.lines if "Traceback" in line or "error" in line]


def test_a_signal_as_soon_as_it_listens_does_too() -> None:
    with serving() as one:
        one.process.send_signal(signal.SIGTERM)
        assert one.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_that_run_may_finish(number: signal.Signals) -> None:
    with serving(program=SLOW) as one, raw.connected(one.url, 60) as client:
        client.sendall(raw.request("/tiny", body(stream=True, num_predict=20)))
        got = client.recv(1 << 16)
        one.process.send_signal(number)
        whole = got + raw.ended(client)
        assert b'"done":"length"' in whole
        assert whole.endswith(b"0\r\n\r\n")
        assert one.ended() == 0


def test_streams_that_run_for_too_long_are_told() -> None:
    with (
        serving("--grace", "300ms", program=SLOW) as one,
        raw.connected(one.url, 60) as client,
        raw.connected(one.url, 60) as other,
    ):
        client.sendall(raw.request("/tiny", body(stream=True)))
        got = client.recv(1 << 16)
        other.sendall(raw.request("/tiny", body()))  # not streamed, and told by its status
        until(lambda: b"\n" in client.recv(1 << 16))
        one.process.send_signal(signal.SIGTERM)
        whole = got + raw.ended(client)
        assert b'{"tiny":"the server is shutting down: try again later"}' in whole
        assert whole.endswith(b"0\r\n\r\n")
        assert raw.status(raw.ended(other)) == 503
        assert one.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with serving("--grace", "1h", program=SLOW) as one, raw.connected(one.url, 60) as client:
        client.sendall(raw.request("/tiny", body(stream=True)))
        assert client.recv(1 << 16)
        one.process.send_signal(signal.SIGTERM)
        until(lambda: _refuses(one.url))
        assert one.process.poll() is None
        one.process.send_signal(number)
        assert one.ended(20) == 128 + number


def _refuses(url: str) -> bool:
    try:
        with raw.connected(url):
            return False
    except ConnectionRefusedError:
        return True


# --- an orderly end, in this process


def test_who_waits_for_a_model_is_told_at_the_end() -> None:
    with ThreadPoolExecutor() as pool, running(tiny.routes, grace_s=0.2) as live:
        assert post(live.url, num_predict=1).status_code == 200
        gate = pool.submit(lambda: None)
        with gated(live.house):
            both = [pool.submit(post, live.url, stream=stream) for stream in (True, False)]
            until(lambda: leases(live.house) == 2)
            live.server.should_exit = True
            assert [one.result(30).status_code for one in both] == [503, 503]
        gate.result()


def test_who_has_not_said_all_is_told_at_once() -> None:
    with running(tiny.routes, grace_s=60) as live, raw.connected(live.url) as one:
        one.sendall(raw.request("/tiny", body())[:-3])
        until(lambda: live.house.intake.taken)
        live.server.should_exit = True
        answer = raw.ended(one)
        assert raw.status(answer) == 503
        assert b"retry-after: 1" in answer


def test_idle_connections_do_not_keep_it() -> None:
    with running(tiny.routes, grace_s=60) as live, raw.connected(live.url) as idle, raw.connected(live.url) as young:
        idle.sendall(raw.head("GET", "/well"))
        assert raw.answer(idle)[0] == 200
        young.sendall(b"GET /w")
        live.server.should_exit = True
        assert raw.ended(idle) == b""


def test_threads_and_models_are_gone_afterwards() -> None:
    with running(tiny.routes) as live:
        assert post(live.url, num_predict=1).status_code == 200
        models = live.house.serving.models
    assert models.list() == []


# --- beginnings


def refused(*options: str, **settings: str) -> str:
    done = subprocess.run(
        [*COMMAND, "serve", *options], env=environment(settings), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--port", str(port)) == (
            f"Error: cannot listen on 127.0.0.1:{port}: something listens there already (Ollama? another Headrace?): "
            "end it, or take another --port\n"
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines: give a key"),
        (["--host", "nowhere.invalid", "--insecure"], "cannot listen on nowhere.invalid:0"),
        (["--host", f"{'a' * 70}.example", "--insecure"], "cannot listen on"),
        (["--host", "203.0.113.9", "--insecure"], "cannot listen on 203.0.113.9:0"),
        (["--host", "https://x"], "'https://x' is not an address: write 127.0.0.1 or 127.0.0.1:8080"),
        (["--api-key", ""], "a key is empty"),
        (["--api-key-file", "nowhere"], "nowhere: the keys cannot be read: No such file or directory"),
        (["--allow-origin", "*"], "--allow-origin is '*' but should be one origin"),
        (["--allow-host", "*"], "--allow-host is '*' but should be a name"),
        (["--model", "nowhere.gguf"], "there is no model 'nowhere.gguf'"),
        (["--model", "nano=/dev/null"], "two models would be called nano"),
        (["--grace", "soon"], "--grace: 'soon' is not a duration"),
        (["--max-body", "much"], "--max-body: 'much' is not a size"),
    ],
)
def test_what_keeps_it_from_beginning_is_one_sentence(options: list[str], sentence: str) -> None:
    said = refused("--port", "0", *options)
    assert sentence in said
    assert "Traceback" not in said


def test_another_machine_may_ask_where_it_has_a_key() -> None:
    with serving("--host", "0.0.0.0", "--api-key", "secret") as one:
        url = re.sub(r"0\.0\.0\.0", "127.0.0.1", one.url)
        assert httpx.post(f"{url}/tokenize", json={"prompt": "x"}).status_code == 401
        allowed = {"Authorization": "Bearer secret"}
        assert httpx.post(f"{url}/tokenize", json={"prompt": "x"}, headers=allowed).status_code == 200
        assert "secret" not in "".join(one.lines)


def test_the_log_of_a_real_server_is_lines_of_json_by_choice() -> None:
    with serving("--log-format", "json") as one:
        httpx.get(f"{one.url}/health")
        raw.said(one.url, b"nonsense\r\n\r\n")
        one.process.send_signal(signal.SIGTERM)
        assert one.ended() == 0
        until(lambda: one.lines and '"ended"' in one.lines[-1])
        events = [json.loads(line) for line in one.lines]
        assert [event["path"] for event in events if event["event"] == "request"] == ["/health"]
        assert {"level": "warning", "event": "Invalid HTTP request received."}.items() <= events[1].items()


def test_ipv6_and_names() -> None:
    with listen("localhost", 0) as one:
        assert one.getsockname()[0] == "127.0.0.1"
    try:
        with listen("[::1]", 0) as one:
            assert one.getsockname()[0] == "::1"
    except start.RequestInvalid as error:
        pytest.skip(f"no IPv6 here: {error}")
