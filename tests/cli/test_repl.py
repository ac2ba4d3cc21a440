"""The conversation in a real terminal: every command, wrong ones too."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

COMMAND = ["-c", "from headrace.cli import main; main()", "run"]
TIMEOUT_S = 40  # for a machine that does much else


class Terminal:
    """A conversation; `send` types a line, `see` waits for a text, `ready` for the next prompt."""

    def __init__(self, home: Path, *flags: str, **environment: str) -> None:
        self.home = home
        variables = {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home),
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        self.child = pexpect.spawn(
            sys.executable,
            [*COMMAND, *flags],
            env=os.environ | variables | environment,
            timeout=TIMEOUT_S,
            encoding="utf-8",
            dimensions=(40, 100),
        )
        self.see(">>> ")

    def see(self, text: str) -> None:
        self.child.expect_exact(text)

    def send(self, line: str, *expected: str) -> None:
        self.child.send(line + "\r")
        for text in expected:
            self.see(text)
        self.see(">>> ")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.child.close(force=True)


def test_several_lines_between_quotes(terminal: Terminal) -> None:
    terminal.child.send('"""What is\r')
    terminal.see("...")
    terminal.send('37 * 12?"""', "444")


def test_settings_and_what_they_show(terminal: Terminal) -> None:
    terminal.send("/set parameter temperature 0.5", "Set parameter temperature 0.5.")
    terminal.send("/set parameter stop END OVER", "Set parameter stop")
    terminal.send("/set parameter num_ctx 2048", "Set parameter num_ctx 2048.")
    terminal.send("/show parameters", "num_ctx", "2048", "temperature", "0.5  (you)", "['END', 'OVER']  (you)")
    terminal.send("/set system You are terse.", "Set system")
    terminal.send("/show system", "You are terse.")
    terminal.send("/set system", "Set system")
    terminal.send("/show system", "(no system prompt)")
    terminal.send("/show info", "lfm2_moe", "Quantisation", "Memory")
    terminal.send("/show template", "<|im_start|>")
    terminal.send("/set verbose")
    terminal.send("Hello", "time to first token:", "peak memory:")
    for line in ("/set quiet", "/set nothink", "/set nowordwrap", "/set wordwrap", "/set noformat"):
        terminal.send(line, f"Set {line.removeprefix('/set ')}.")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/set parameter temperature hot", "temperature is 'hot' but should be a number"),
        ("/set parameter temperature -1", "temperature is -1.0 but should be a number from 0 to 100"),
        ("/set parameter num_ctx 0", "num_ctx is 0 but should be"),
        ("/set parameter heat 1", "unknown parameter 'heat'"),
        ("/set parameter", "a parameter needs a name and a value"),
        ("/set colour", "there is no setting 'colour'"),
        ("/set format xml", "/set format is 'xml' but should be json"),
        ("/set context rotate", "context is 'rotate' but should be one of error, shift, truncate"),
        ("/set loopguard on", "/set loopguard takes nothing more"),
        ("/set think", "nano cannot think aloud"),
        ("/set verbose please", "/set verbose takes nothing more"),
        ("/show weights", "/show needs one of info"),
        ("/load nonesuch", "there is no model 'nonesuch'"),
        ("/load", "something is missing: /load MODEL"),
        ("/save /nonesuch/chat.json", "cannot be written"),
        ("/help me", "there is no help on 'me'"),
        ("/nonsense", "Unknown command '/nonsense'"),
    ],
)
def test_mistakes_get_a_sentence_and_the_session_goes_on(line: str, sentence: str, shared: Terminal) -> None:
    shared.send(line, sentence)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    opened = Terminal(tmp_path_factory.mktemp("home"))
    yield opened
    opened.child.close(force=True)


def test_help(shared: Terminal) -> None:
    shared.send("/?", "/set ...", "/bye")
    shared.send("/help set", "parameter", "nohistory")
    shared.send("/help show", "info")
    shared.send("/help shortcuts", "Ctrl-G")


def test_saving_and_going_back(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    terminal.send("What is 37 * 12?", "444")
    terminal.send("/set parameter num_predict 40")
    terminal.send(f"/save {file}", "Saved as")
    saved = json.loads(file.read_text())
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert saved["parameters"] == {"num_predict": 40}
    terminal.send("/clear", "cleared")
    terminal.send(f"/load {file}", "Went back to the conversation of 4 messages with nano.")
    file.write_text('{"headrace": 99}')
    terminal.send(f"/load {file}", "its version is 99, not 1")


def test_another_model_is_loaded(terminal: Terminal) -> None:
    terminal.send("/load nano", "Loaded nano.")
    terminal.send("What is 6 * 7?", "42")


def test_history_is_kept_unless_told_not_to(terminal: Terminal, tmp_path: Path) -> None:
    terminal.send("/help set")
    terminal.send("/set nohistory", "Set nohistory.")
    terminal.send("/help show")
    (file,) = tmp_path.rglob("history")
    assert "/help set" in file.read_text()
    assert "/help show" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_tab_completes_commands(terminal: Terminal) -> None:
    terminal.child.send("/show sy\t")
    terminal.see("stem")
    terminal.send("", "(no system prompt)")


def test_several_pasted_lines_are_one_message(terminal: Terminal, tmp_path: Path) -> None:
    terminal.child.send("\x1b[200~What is\n37 * 12?\x1b[201~")
    terminal.send("", "444")
    terminal.send(f"/save {tmp_path / 'chat.json'}", "Saved")
    assert json.loads((tmp_path / "chat.json").read_text())["messages"][0]["content"] == "What is\n37 * 12?"


def test_ctrl_g_opens_the_editor(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "What is 37 * 12?" > "$1"\n')
    editor.chmod(0o755)
    terminal = Terminal(tmp_path, EDITOR=str(editor), VISUAL=str(editor))
    terminal.child.send("\x07")
    terminal.see("What is 37 * 12?")
    terminal.send("", "444")
    terminal.child.close(force=True)


def test_flags_set_what_commands_set(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "--system", "Be brief.", "--temperature", "0.7", "--keep-alive", "5m", "--verbose")
    terminal.send("/show system", "Be brief.")
    terminal.send("/show parameters", "0.7  (you)")
    terminal.child.close(force=True)


def test_a_window_that_is_too_small_names_what_can_be_typed(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "--num-ctx", "64")
    terminal.send("Hi", "window holds 64: shorten it, ask for a larger window with /set parameter num_ctx, or let")
    terminal.send("/set parameter num_ctx 2048", "Set parameter num_ctx 2048.")
    terminal.send("Hi", "Hello")
    terminal.child.close(force=True)
