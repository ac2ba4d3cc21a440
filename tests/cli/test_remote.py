"""`run --host`, `ps` and `stop` as a user meets them, at a server that speaks as Ollama does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.fake_ollama import RUNNING, Fake, fake

HEADRACE = [sys.executable, "-c", "from headrace.cli import main; main()"]
TIMEOUT_S = 90
Open = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[Fake]:
    with fake() as one:
        yield one


def headrace(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: text for name, text in os.environ.items() if not name.startswith(("HEADRACE_", "OLLAMA_"))}
    return subprocess.run(
        [*HEADRACE, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=own | environment,
    )


def run(server: Fake, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return headrace("run", "--host", server.url, "scripted", *arguments, **given)


@pytest.fixture
def terminal(server: Fake, tmp_path: Path) -> Iterator[Open]:
    """Opens `headrace run --host URL scripted ARGUMENTS...` in a terminal, and waits for its prompt."""
    opened = []

    def start(*arguments: str) -> Any:
        child = pexpect.spawn(
            HEADRACE[0],
            [*HEADRACE[1:], "run", "--host", server.url, "scripted", *arguments],
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"},
            timeout=TIMEOUT_S,
            encoding="utf-8",
            dimensions=(40, 100),
        )
        opened.append(child)
        child.expect_exact(">>> ")
        return child

    yield start
    for child in opened:
        child.close(force=True)


def send(child: Any, line: str, *expected: str) -> None:
    child.send(line + "\r")
    for text in expected:
        child.expect_exact(text)
    child.expect_exact(">>> ")


# --- one answer


def test_one_answer(server: Fake) -> None:
    done = run(server, "say one |two")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one two\n", "")
    assert run(server, stdin="say piped").stdout == "piped\n"


def test_it_needs_no_engine(server: Fake) -> None:
    """Counted, not timed: whoever talks to a server waits for no library of those that run a model."""
    code = (
        "import sys\nfrom headrace.cli import headrace\n"
        f"headrace(['run', '--host', {server.url!r}, 'scripted', 'say hi'], standalone_mode=False)\n"
        "print(*sorted({'numpy', 'tokenizers', 'jinja2', 'llguidance', 'starlette', 'msgspec', 'headrace._core'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="", capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert done.stdout == "hi\n\n"


def test_what_flags_ask_for_is_asked(server: Fake, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    arguments = (
        "--system Brief. --temperature 0.5 --num-predict 9 --num-ctx 2048 --think --keep-alive 5m --context shift"
    )
    assert run(server, 'say {"a": 1}', *arguments.split(), "--format", str(schema)).returncode == 0
    (body,) = server.chats
    assert body["options"] == {"temperature": 0.5, "num_predict": 9, "num_ctx": 2048}
    assert body["format"] == {"type": "object"}
    assert (body["think"], body["keep_alive"], body["truncate"]) == (True, 300, True)
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][0]["content"].startswith("Brief.\nAnswer with JSON only")
    run(server, "say hi")
    assert not {"format", "think", "keep_alive", "tools"} & server.chats[-1].keys()
    assert (server.chats[-1]["options"], server.chats[-1]["truncate"]) == ({}, False)


def test_json_is_checked(server: Fake) -> None:
    assert run(server, 'say {"a": 1}', "--format", "json").returncode == 0
    done = run(server, "say no", "--format", "json")
    assert (done.returncode, done.stderr) == (1, "Warning: the answer is not JSON\n")


def test_thinking_is_shown_or_hidden(server: Fake) -> None:
    shown, hidden = run(server, "think"), run(server, "think", "--hide-thinking")
    assert shown.stderr == "let me see\n\n"
    assert hidden.stderr == ""
    assert shown.stdout == hidden.stdout == "thought\n"


def test_verbose_reports_what_the_server_measured(server: Fake) -> None:
    report = run(server, "say hi", "--verbose").stderr
    for row in ("load time: +1.000 s", "prompt: +26 tokens, 52.0 tokens/s", "decode: +10 tokens, 5.0 tokens/s"):
        assert re.search(f"^{row}$", report, re.MULTILINE)
    assert re.search(r"^time to first token: +\d", report, re.MULTILINE)
    assert "memory" not in report


def test_what_was_left_out_and_why_it_ended_is_said(server: Fake) -> None:
    done = run(server, "extras")
    assert "the answer repeats itself" in done.stderr
    assert "--no-loop-guard" not in done.stderr
    assert "(left out to fit the context window of 512 tokens: 2 messages, 120 tokens)" in done.stderr
    assert "(the context window of 4096 tokens is full)" in run(server, "length").stderr


# --- tools, which run here

TOOLS = '''
def delete(name: str) -> str:
    """Deletes a file."""
    return f"{name} is gone"
'''


@pytest.fixture
def own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_tools.py").write_text(TOOLS)
    monkeypatch.chdir(tmp_path)


def test_built_in_tools_run_here(server: Fake) -> None:
    done = run(server, 'call calculate {"expression": "37 * 12"}', "--tools", "builtin")
    assert done.stderr == '→ calculate(expression="37 * 12")\n← 444\n'
    assert done.stdout == "calculate says 444\n"


def test_nano_is_offered_them_wherever_it_is() -> None:
    with fake(names=["nano:latest"]) as server:
        done = headrace("run", "--host", server.url, "nano", 'call calculate {"expression": "1 + 1"}')
        assert done.stdout == "calculate says 2\n"
        assert headrace("run", "nano:latest", "say hi", "--tools", "none", "--host", server.url).stdout == "hi\n"
        assert "tools" not in server.chats[-1]


@pytest.mark.usefixtures("own_tools")
def test_a_tool_that_is_not_safe_needs_consent(server: Fake, terminal: Open) -> None:
    question, own = 'call delete {"name": "a.txt"}', ("--tool", "own_tools:delete")
    refused = run(server, question, *own)
    assert "delete was not run: nobody could be asked" in refused.stdout
    assert run(server, question, *own, "--trust-tools").stdout == "delete says a.txt is gone\n"
    child = terminal(*own)
    child.send(question + "\r")
    child.expect_exact('Run delete(name="a.txt")? [y]es, [n]o, [a]lways: ')
    child.send("y")
    child.expect_exact("delete says a.txt is gone")


# --- the conversation


def test_a_conversation_has_all_commands(terminal: Open, server: Fake) -> None:
    child = terminal()
    send(child, "say hi", "hi")
    send(child, "/set parameter temperature 0.5", "Set parameter temperature 0.5.")
    send(child, "/set parameter num_ctx 2048", "Set parameter num_ctx 2048.")
    send(child, "/set system You are terse.", "Set system")
    send(child, "/set format json", "Set format json.")
    send(child, "/set think", "Set think.")
    send(child, "/show parameters", "num_ctx", "2048", "temperature", "0.5  (you)", "<|eot|>", "(the model)")
    send(child, "/show info", "scripted", server.url, "Q4_K_M", "thinking", "2,048", "<|end|>")
    send(child, "/show template", "{{ .Prompt }}")
    send(child, "/show system", "You are terse.")
    send(child, 'say {"a": 1}', '{"a": 1}')
    first, second = server.chats
    assert first["messages"] == [{"role": "user", "content": "say hi"}]
    assert first["truncate"], "a conversation lets its oldest turns go"
    roles = [message["role"] for message in second["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert second["options"] == {"temperature": 0.5, "num_ctx": 2048}
    assert (second["format"], second["think"]) == ("json", True)
    send(child, "/clear", "cleared")
    send(child, "/set noformat", "Set noformat.")
    send(child, "say alone", "alone")
    assert [message["role"] for message in server.chats[-1]["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/set parameter temperature -1", "temperature is -1.0 but should be a number from 0 to 100"),
        ("/set parameter heat 1", "unknown parameter 'heat'"),
        ("/set parameter num_ctx 0", "num_ctx is 0 but should be a whole number from 1"),
        ("/set noloopguard", "/set noloopguard: the server ends an answer that repeats itself"),
        ("/load nonesuch", "it has scripted:latest, other:7b"),
        ("status 500", "it is status 500"),
        ("status 400", "it is status 400"),
        ("error", "CUDA error"),
    ],
)
def test_mistakes_get_a_sentence_and_the_conversation_goes_on(line: str, sentence: str, terminal: Open) -> None:
    child = terminal()
    send(child, line, "Error: ", sentence)
    send(child, "say still here", "still here")


def test_saving_and_going_back(terminal: Open, server: Fake, tmp_path: Path) -> None:
    child, file = terminal(), tmp_path / "chat.json"
    send(child, "/load other:7b", "Loaded other:7b.")
    send(child, "say hi", "hi")
    assert server.chats[-1]["model"] == "other:7b"
    send(child, f"/save {file}", "Saved as")
    assert json.loads(file.read_text())["model"] == "other:7b"
    send(child, "/load scripted", "Loaded scripted.")
    send(child, f"/load {file}", "Went back to the conversation of 2 messages with other:7b.")
    send(child, "say more", "more")
    assert server.chats[-1]["model"] == "other:7b"
    assert [message["content"] for message in server.chats[-1]["messages"]] == ["say hi", "hi", "say more"]


@pytest.mark.parametrize(("question", "shown"), [("slow", "on on"), ("silent", None)])
def test_ctrl_c_ends_the_answer_at_the_server_too(
    question: str, shown: str | None, terminal: Open, server: Fake
) -> None:
    child = terminal()
    child.send(question + "\r")
    if shown:
        child.expect_exact(shown)
    else:
        child.expect_exact("\r\n")
        while not server.chats:
            time.sleep(0.01)
    child.sendintr()
    child.expect_exact("(stopped)")
    assert server.gone.wait(TIMEOUT_S)
    child.expect_exact(">>> ")
    send(child, "repeat", '"messages"')
    roles = [message["role"] for message in server.chats[-1]["messages"]]
    assert roles == (["user", "assistant", "user"] if shown else ["user"])


def test_ctrl_c_ends_one_answer_with_130(server: Fake) -> None:
    own = [*HEADRACE[:2], "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + HEADRACE[2]]
    arguments = ["run", "--host", server.url, "scripted", "slow"]
    with subprocess.Popen(
        [*own, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.read(3) == b"on "
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert server.gone.wait(TIMEOUT_S)


# --- which server


def test_the_server_is_that_of_the_flag_or_of_the_environment(server: Fake) -> None:
    elsewhere, port = "http://127.0.0.1:9", server.url.rpartition(":")[2]
    ask = ("run", "scripted", "say hi", "--host")
    assert headrace(*ask, OLLAMA_HOST=server.url).stdout == "hi\n"
    assert headrace(*ask, HEADRACE_HOST=server.url, OLLAMA_HOST=elsewhere).stdout == "hi\n"
    assert headrace(*ask, HEADRACE_HOST="0.0.0.0", HEADRACE_PORT=port, OLLAMA_HOST=elsewhere).stdout == "hi\n"
    assert headrace(*ask, server.url, HEADRACE_HOST=elsewhere).stdout == "hi\n"
    assert headrace("ps", "--json", OLLAMA_HOST=f":{port}").returncode == 0
    assert "HEADRACE_PORT is 'x'" in headrace(*ask, HEADRACE_PORT="x").stderr


def test_without_host_the_model_runs_here(server: Fake) -> None:
    done = headrace("run", "scripted", "say hi", HEADRACE_HOST=server.url, OLLAMA_HOST=server.url)
    assert done.returncode == 2
    assert "there is no model 'scripted': " in done.stderr
    assert not server.asked


def test_keys_come_from_the_flag_or_the_environment() -> None:
    with fake(key="secret") as server:
        arguments = ("run", "--host", server.url, "scripted", "say hi")
        assert headrace(*arguments, "--api-key", "secret").stdout == "hi\n"
        assert headrace(*arguments, HEADRACE_API_KEY="secret").stdout == "hi\n"
        for several in ("secret other", "secret:infer other:manage", " secret:manage,infer\n"):
            assert headrace(*arguments, HEADRACE_API_KEY=several).stdout == "hi\n"
            assert headrace("ps", "--host", server.url, HEADRACE_API_KEY=several).returncode == 0
            assert headrace("stop", "scripted", "--host", server.url, HEADRACE_API_KEY=several).returncode == 0
        assert headrace(*arguments, HEADRACE_API_KEY="other secret").returncode == 2
        assert headrace(*arguments, "--api-key", "secret:infer").returncode == 2, "what is typed is the key itself"
        refused = headrace(*arguments)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"Error: {server.url}: it wants a key: give one with --api-key, or in HEADRACE_API_KEY\n"
        )
        assert headrace("ps", "--host", server.url, "--api-key", "secret").returncode == 0
        assert headrace("stop", "scripted", "--host", server.url).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nonesuch", "hi"], 2, "there is no model 'nonesuch' at http://127.0.0.1:"),
        (["scripted", "hi", "--temperature", "-1"], 2, "temperature is -1.0 but should be"),
        (["scripted", "status 400"], 2, "it is status 400"),
        (["scripted", "status 500"], 1, "it is status 500"),
        (["scripted", "error"], 1, r"CUDA error\n\x1b[31m"),
        (["scripted", "cut"], 1, "ended the answer in its middle"),
        (["scripted", "hi", "--threads", "2"], 2, "--threads is for a model that runs here"),
        (["scripted", "hi", "--kv", "int8"], 2, "--kv is for"),
        (["scripted", "hi", "--cache-bytes", "1GB"], 2, "--cache-bytes is for"),
        (["scripted", "hi", "--cache", "x"], 2, "--cache is for"),
        (["scripted", "hi", "--draft", "none"], 2, "--draft is for"),
        (["scripted", "hi", "--grammar", "x.gbnf"], 2, "--grammar is for"),
        (["scripted", "hi", "--tool-choice", "none"], 2, "--tool-choice is for"),
        (["scripted", "hi", "--no-loop-guard"], 2, "--no-loop-guard is for"),
        (["scripted"], 2, "there is no prompt"),
    ],
)
def test_mistakes_get_one_sentence(arguments: list[str], code: int, sentence: str, server: Fake) -> None:
    done = headrace("run", "--host", server.url, *arguments)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    for arguments in (["run", "nano", "hi"], ["ps"], ["stop", "nano"]):
        done = headrace(*arguments, "--host", host)
        assert (done.returncode, done.stdout) == (2, "")
        assert (
            f"nothing answers at http://{host} (Connection refused): start a server with `headrace serve`"
            in done.stderr
        )


def test_a_key_without_a_server_is_a_mistake() -> None:
    done = headrace("run", "nano", "Hi", "--api-key", "x")
    assert (done.returncode, done.stderr) == (2, "Error: --api-key is for a server: say which with --host\n")


# --- ps and stop


def test_ps_lists_what_a_server_of_ollama_has_loaded(server: Fake) -> None:
    header, row = headrace("ps", "--host", server.url).stdout.splitlines()
    columns = ["NAME", "SIZE", "STATE", "CONTEXT", "CACHE", "IN FLIGHT", "WAITING", "UNTIL"]
    assert re.split(r"  +", header) == columns
    assert re.split(r"  +", row) == ["scripted:latest", "3.0 GiB", "loaded", "4,096", "-", "-", "-", "for ever"]
    (facts,) = json.loads(headrace("ps", "--json", "--host", server.url).stdout)
    assert facts == {
        "name": "scripted:latest",
        "size_bytes": 3 << 30,
        "state": "loaded",
        "num_ctx": 4096,
        "cache_tokens": None,
        "cache_bytes": None,
        "cache_capacity_bytes": None,
        "in_flight": None,
        "running": None,
        "waiting": None,
        "until": None,
    }


def test_ps_lists_what_our_own_server_says_beside_it(server: Fake) -> None:
    until = datetime.now().astimezone() + timedelta(minutes=4, seconds=50)
    cache = {"tokens": 1280, "size_bytes": 1 << 20, "capacity_bytes": 5 << 20, "evicted_blocks": 0, "preempted": 0}
    more = {"state": "loaded", "in_flight": 22, "running": 16, "waiting": 6, "cache": cache}
    server.running = [
        {**RUNNING[0], "expires_at": until.isoformat(), "headrace": more},
        {**RUNNING[0], "name": "other:7b", "headrace": {"state": "loading", "in_flight": 2}},
    ]
    _, *rows = (re.split(r"  +", line) for line in headrace("ps", "--host", server.url).stdout.splitlines())
    assert rows[0][2:7] == ["loaded", "4,096", "1,280 tokens, 1.0 MiB of 5.0 MiB", "22", "6"]
    assert re.fullmatch(r"in [1-4] min", rows[0][7]) or re.fullmatch(r"in \d+ s|now", rows[0][7])
    assert rows[1][2:7] == ["loading", "4,096", "-", "2", "-"]
    facts, loading = json.loads(headrace("ps", "--json", "--host", server.url).stdout)
    assert facts["until"] == until.isoformat(timespec="seconds")
    assert (facts["in_flight"], facts["running"], facts["waiting"]) == (22, 16, 6)
    assert (facts["cache_tokens"], facts["cache_bytes"], facts["cache_capacity_bytes"]) == (1280, 1 << 20, 5 << 20)
    assert (loading["state"], loading["waiting"], loading["cache_bytes"]) == ("loading", None, None)


def test_ps_of_nothing_and_of_nonsense(server: Fake) -> None:
    server.running = []
    done = headrace("ps", "--host", server.url)
    assert (done.stdout, done.stderr) == ("", f"{server.url} has no model loaded.\n")
    assert json.loads(headrace("ps", "--json", "--host", server.url).stdout) == []
    server.running = [{"name": "a\x1b[31m", "size": "big", "expires_at": "soon", "headrace": [], "context_length": -1}]
    row = headrace("ps", "--host", server.url).stdout.splitlines()[1]
    assert re.split(r"  +", row) == ["a␛[31m", "-", "loaded", "-", "-", "-", "-", "for ever"]


def test_stop(server: Fake) -> None:
    done = headrace("stop", "scripted", "--host", server.url)
    assert (done.returncode, done.stdout) == (0, "Stopped scripted.\n")
    assert server.asked[-1] == ("/api/generate", {"model": "scripted", "keep_alive": 0, "stream": False})
    assert headrace("stop", "other:7b", "--host", server.url).stdout == "other:7b was not loaded.\n"
    unknown = headrace("stop", "nonesuch", "--host", server.url)
    assert unknown.returncode == 2
    assert "it has scripted:latest, other:7b" in unknown.stderr
