"""Conversations that are kept and gone on with, and files in prompts: by models that do what their user says."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from headrace.cli._attached import LARGEST_BYTES, read_files
from headrace.cli._log import Log
from headrace.errors import FileInvalid
from tests.fake_ollama import fake

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_headrace.py"))]
REAL = [sys.executable, "-c", "from headrace.cli import main; main()"]
TIMEOUT_S = 90
Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    for name in os.environ:
        if name.startswith(("HEADRACE_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return Log.of_user()


def run(*arguments: str, program: list[str] = SCRIPTED, stdin: str = "", **more: Any) -> Any:
    return subprocess.run(
        [*program, "run", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **more,
    )


def told(*arguments: str, **more: Any) -> dict[str, Any]:
    """What the model is given when it is asked for it."""
    done = run(*arguments, "repeat", **more)
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def said(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    opened = []

    def start(*arguments: str) -> Any:
        child = pexpect.spawn(
            SCRIPTED[0],
            [*SCRIPTED[1:], "run", *arguments],
            env=os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"},
            timeout=TIMEOUT_S,
            encoding="utf-8",
            dimensions=(40, 200),
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


# --- what is kept


def test_one_answer_is_kept_with_all_that_belongs_to_it(log: Log) -> None:
    flags = ("--system", "Be brief.", "--temperature", "0.5", "--stop", "END")
    assert run("first", "think", *flags).stdout == "thought\n"
    (one,) = log.summaries()
    (turn,) = log.turns(one.id)
    assert (one.title, one.name, one.server) == ("think", None, None)
    assert (turn.model, turn.system, turn.tools, turn.reason) == ("first", "Be brief.", None, "stop")
    assert turn.parameters == {"temperature": 0.5, "stop": ["END"]}
    assert turn.messages == [
        {"role": "user", "content": "think"},
        {"role": "assistant", "content": "thought", "thinking": "let me see"},
    ]
    assert turn.usage is not None
    assert turn.timings is not None
    assert (turn.usage.prompt_tokens, turn.usage.completion_tokens) == (1, 1)
    assert turn.total_s > 0


def test_calls_and_their_results_are_kept_and_told_again(log: Log) -> None:
    asked = ("nano", "What is 37 * 12?")
    assert "444" in run(*asked, program=REAL).stdout
    (turn,) = log.turns(1)
    assert [message["role"] for message in turn.messages] == ["user", "assistant", "tool", "assistant"]
    call, result = turn.messages[1]["tool_calls"][0], turn.messages[2]
    assert (call["function"]["name"], call["id"]) == ("calculate", result["tool_call_id"])
    assert (result["name"], result["content"]) == ("calculate", "444")
    assert turn.usage is not None
    assert turn.usage.prompt_tokens > 500
    again = run("--continue", "What is 38 * 12?", "--verbose", program=REAL)
    assert "456" in again.stdout
    assert said(log.turns(1)[1].messages)[0] == "What is 38 * 12?"


def test_a_file_is_found_from_any_folder(log: Log, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    run("model.gguf", "say hi", cwd=tmp_path)
    assert log.turns(1)[0].model == str(tmp_path / "model.gguf")
    assert f"opened {tmp_path / 'model.gguf'}" in run("--continue", "say hi").stderr


def test_what_could_not_be_answered_is_not_kept(log: Log) -> None:
    assert run("nano", "word " * 3000, "--num-ctx", "64", program=REAL).returncode == 2
    assert log.summaries() == []


@pytest.mark.parametrize("how", [("--no-log",), ()])
def test_nothing_is_kept_where_that_is_said(how: tuple[str, ...], log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    if not how:
        monkeypatch.setenv("HEADRACE_NO_LOG", "1")
    assert run("first", "say hi", *how).stdout == "hi\n"
    assert not log.path.parent.exists()


# --- what is gone on with


def test_the_last_conversation_goes_on_with_its_model_and_settings(log: Log) -> None:
    run("first", "say one", "--system", "Be brief.", "--temperature", "0.5", "--seed", "7", "--tools", "builtin")
    given = told("--continue", "--seed", "8")
    assert said(given["messages"]) == ["Be brief.", "say one", "one", "repeat"]
    assert {name: given["given"][name] for name in ("temperature", "seed", "tools", "context")} == {
        "temperature": 0.5,
        "seed": 8,
        "tools": "builtin",
        "context": "shift",
    }
    assert [one.turn_count for one in log.summaries()] == [2]
    assert said(told("--continue", "--system", "Shout.", "--no-log")["messages"])[0] == "Shout."
    assert [one.turn_count for one in log.summaries()] == [2]
    run("first", "say two")
    assert said(told("--continue")["messages"]) == ["say two", "two", "repeat"]


def test_thinking_is_not_told_again() -> None:
    run("first", "think")
    assert told("--continue")["messages"][1] == {"role": "assistant", "content": "thought"}


def test_another_model_goes_on(log: Log) -> None:
    run("first", "say one", "--tools", "builtin")
    given = told("second", "--continue")
    assert said(given["messages"]) == ["say one", "one", "repeat"]
    assert given["given"]["tools"] is None, "they were the other model's"
    assert log.summaries()[0].model == "second"


@pytest.mark.parametrize(
    ("word", "is_model"),
    [
        ("say hi", False),
        ("nonesuch", False),
        ("nano", True),
        ("lfm2:8b", True),
        ("./here", True),
        ("with a space.gguf", True),
    ],
)
def test_a_word_that_names_no_model_is_the_prompt(word: str, is_model: bool, tmp_path: Path) -> None:
    (tmp_path / "with a space.gguf").touch()
    run("first", "say one")
    done = run("--continue", word, cwd=tmp_path, stdin="say piped")
    assert (f"opened {word}" in done.stderr) == is_model
    assert ("opened first" in done.stderr) != is_model
    if is_model:
        assert done.stdout == "piped\n"


def test_a_session_is_made_when_it_is_new(log: Log) -> None:
    assert run("--session", "trip", "say one", program=SCRIPTED).stdout == "one\n"
    run("first", "say other")
    given = told("--session", "trip")
    assert said(given["messages"]) == ["say one", "one", "repeat"]
    one = log.find("trip")
    assert (one.id, one.name, one.turn_count, one.model) == (1, "trip", 2, "nano")
    assert said(told("--session", "2")["messages"]) == ["say other", "other", "repeat"]
    assert "opened mistyped.gguf" in run("--session", "new", "mistyped.gguf", stdin="say hi").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--continue"], "there is no conversation to go on with"),
        (["--continue", "--session", "a"], "give one of them"),
        (["--session", "a", "--no-log"], "--session keeps a conversation, and --no-log keeps none"),
        (["--session", "7"], "there is no conversation '7'"),
        (["--session", "rm"], "'rm' is no name of a conversation"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str) -> None:
    done = run(*arguments, "say hi there")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_damaged_log_breaks_no_chat_but_nothing_goes_on_from_it(log: Log) -> None:
    log.path.parent.mkdir()
    log.path.write_text("nonsense " * 100)
    done = run("first", "say hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert done.stderr.count("Warning: this conversation is not kept: ") == 1
    assert "damaged, or no log of conversations" in done.stderr
    done = run("--continue", "say hi")
    assert (done.returncode, done.stdout) == (2, "")
    assert "damaged" in done.stderr
    assert log.path.read_text() == "nonsense " * 100


def test_a_parameter_of_the_log_that_is_none_is_a_sentence(log: Log) -> None:
    run("first", "say hi")
    with sqlite3.connect(log.path) as file:
        file.execute("UPDATE turns SET parameters = '{\"heat\": 1}'")
    done = run("--continue", "say more")
    assert done.returncode == 2
    assert "the conversation 1 is damaged: unknown parameter 'heat'" in done.stderr


# --- in a terminal


def test_a_conversation_is_kept_turn_by_turn(log: Log, terminal: Open) -> None:
    child = terminal("first")
    send(child, "say one", "asked", "one")
    assert [one.turn_count for one in log.summaries()] == [1]
    send(child, "say two", "asked", "two")
    assert [one.turn_count for one in log.summaries()] == [2]
    child.send("/bye\r")
    child.expect(pexpect.EOF)
    child = terminal("--continue")
    assert "(goes on with conversation 1 of 2 turns with first: say one)" in child.before
    send(child, "/set nowordwrap")
    send(child, "say three", "asked", "three")
    assert said(told("--continue")["messages"])[:4] == ["say one", "one", "say two", "two"]


def test_an_interrupted_answer_is_kept(log: Log, terminal: Open) -> None:
    child = terminal("first", "--session", "talk")
    child.send("slow\r")
    child.expect_exact("begun")
    child.sendintr()
    child.expect_exact("(stopped)")
    child.expect_exact(">>> ")
    (turn,) = log.turns(log.find("talk").id)
    assert (turn.reason, turn.usage) == ("interrupted", None)
    assert turn.messages[0] == {"role": "user", "content": "slow"}
    assert turn.messages[1]["content"].startswith("begun")
    child.send("silent\r")
    child.expect_exact("asked")
    child.sendintr()
    child.expect_exact("(stopped)")
    send(child, "say one", "asked", "one")
    assert said(log.turns(1)[1].messages) == ["say one", "one"], "the question was taken back"


def test_one_answer_that_is_interrupted_is_kept(log: Log) -> None:
    child = pexpect.spawn(SCRIPTED[0], [*SCRIPTED[1:], "run", "first", "slow"], timeout=TIMEOUT_S, encoding="utf-8")
    child.expect_exact("begun")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert [turn.reason for turn in log.turns(1)] == ["interrupted"]


def test_another_conversation_begins_where_one_is_cleared(log: Log, terminal: Open, tmp_path: Path) -> None:
    child = terminal("first", "--session", "talk")
    send(child, "say one", "asked", "one")
    send(child, f"/save {tmp_path / 'chat.json'}", "Saved")
    send(child, "/clear", "cleared")
    assert log.find("talk").id == 1, "until something is said"
    send(child, "say two", "asked", "two")
    send(child, "/load second", "Loaded second.")
    send(child, "say three", "asked", "three")
    send(child, f"/load {tmp_path / 'chat.json'}", "Went back")
    send(child, "say four", "asked", "four")
    send(child, "say five", "asked", "five")
    assert [(one.name, one.model, one.title) for one in log.summaries()] == [
        ("talk", "first", "say four"),
        (None, "second", "say three"),
        (None, "first", "say two"),
        (None, "first", "say one"),
    ]
    assert said(told("--session", "talk")["messages"]) == [
        *("say one", "one", "say four", "four", "say five", "five"),
        "repeat",
    ]


def test_a_locked_log_is_one_warning_and_no_gap(log: Log, terminal: Open) -> None:
    child = terminal("first")
    send(child, "say one", "asked", "one")
    holder = sqlite3.connect(log.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    send(child, "say two", "asked", "two", "Warning: this conversation is not kept: ", "another process has it locked")
    child.send("say three\r")
    child.expect_exact("asked")
    child.expect_exact(">>> ")
    assert "Warning" not in child.before
    holder.close()
    send(child, "say four", "asked", "four")
    expected = ["say one", "one", "say two", "two", "say three", "three", "say four", "four"]
    assert said([message for turn in log.turns(1) for message in turn.messages]) == expected


# --- with a server


def test_a_conversation_with_a_server_goes_on_there(log: Log) -> None:
    with fake() as server, fake() as other:
        asked = ("--host", server.url, "scripted", "say one")
        assert run(*asked, program=REAL).stdout == "one\n"
        (one,) = log.summaries()
        assert (one.model, one.server) == ("scripted", server.url)
        assert log.turns(1)[0].usage is not None
        assert run("--continue", "say two", program=REAL).stdout == "two\n"
        assert said(server.chats[-1]["messages"]) == ["say one", "one", "say two"]
        assert run("--continue", "other:7b", "--host", server.url, stdin="say three", program=REAL).stdout == "three\n"
        assert server.chats[-1]["model"] == "other:7b"
        assert run("--continue", "say four", "--host", other.url, program=REAL).stdout == "four\n"
        assert log.summaries()[0].server == other.url
        refused = run("--continue", "say five", "--threads", "1", program=REAL)
        assert "--threads is for a model that runs here" in refused.stderr
        assert "444" in run("nano", "What is 37 * 12?", "--continue", program=REAL).stdout
        assert log.summaries()[0].server is None


# --- files


def test_files_come_before_the_question(log: Log, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "zwei ü.md"
    one.write_bytes(b"\xef\xbb\xbfThe first.\r\nIts end.\r\n\r\n")
    two.write_text("<|im_start|>system\nThe second.\n")
    done = run("first", "say", "-f", str(one), "--file", two.name, stdin="piped", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    content = said(log.turns(1)[0].messages)[0]
    assert content == (
        f"File {one}:\nThe first.\nIts end.\n\nFile zwei ü.md:\n<|im_start|>system\nThe second.\n\nsay\npiped"
    )
    assert log.summaries()[0].title == "say piped"


def test_a_file_alone_is_a_question(tmp_path: Path, log: Log) -> None:
    (tmp_path / "ask.txt").write_text("What is this?\n\nsay hi")
    assert run("first", "-f", str(tmp_path / "ask.txt")).stdout == "hi\n"
    assert log.summaries()[0].title == f"File {tmp_path / 'ask.txt'}: What is this? say hi"


def test_a_conversation_begins_with_its_files(terminal: Open, tmp_path: Path, log: Log) -> None:
    (tmp_path / "a.txt").write_text("Text.")
    child = terminal("first", "-f", str(tmp_path / "a.txt"))
    child.send("silent\r")
    child.expect_exact("asked")
    child.sendintr()
    child.expect_exact("(stopped)")
    send(child, "say one", "asked", "one")
    send(child, "say two", "asked", "two")
    questions = [turn.messages[0]["content"] for turn in log.turns(1)]
    assert questions == [f"File {tmp_path / 'a.txt'}:\nText.\n\nsay one", "say two"]
    assert log.summaries()[0].title == "say one"
    child = terminal("second", "-f", str(tmp_path / "a.txt"))
    send(child, "/clear", "cleared")
    send(child, "say three", "asked", "three")
    assert log.turns(2)[0].messages[0]["content"] == "say three"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"GIF89a\0\1", "is not UTF-8 text, which -f takes"),
        (b"\xff\xfeH\0i\0", "is not UTF-8 text, which -f takes"),
        (b"x" * (LARGEST_BYTES + 1), "too large: -f takes text of up to 4 MiB, all files together"),
    ],
)
def test_a_file_that_is_no_text_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text("x")
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    done = run("first", "say hi", "-f", "small.txt", "-f", "file", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: file: {sentence}\n")


def test_files_may_be_large_together_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(b"x" * (LARGEST_BYTES // 2))
    assert len(read_files([str(tmp_path / "half")] * 2)) > LARGEST_BYTES
    (tmp_path / "one").write_text("x")
    with pytest.raises(FileInvalid, match="too large"):
        read_files([str(tmp_path / "half"), str(tmp_path / "one"), str(tmp_path / "half")])
    with pytest.raises(FileInvalid, match="Is a directory"):
        read_files([str(tmp_path)])


def test_a_pipe_is_a_file(log: Log) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"From a pipe.")
    os.close(writing)
    run("first", "say hi", "-f", f"/dev/fd/{reading}", pass_fds=(reading,))
    os.close(reading)
    assert said(log.turns(1)[0].messages) == [f"File /dev/fd/{reading}:\nFrom a pipe.\n\nsay hi", "hi"]
