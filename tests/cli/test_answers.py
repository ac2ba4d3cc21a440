"""Answers as they look and end in a terminal and in a pipe, by models whose words are known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

PROGRAM = [sys.executable, str(Path(__file__).with_name("scripted_headrace.py")), "run"]
TIMEOUT_S = 90
Open = Callable[..., Any]


def piped(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "first", *arguments], input="", capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Open]:
    """Opens `headrace run first ARGUMENTS...` in a terminal."""
    opened = []

    def start(*arguments: str, term: str = "xterm") -> Any:
        child = pexpect.spawn(
            PROGRAM[0],
            [*PROGRAM[1:], "first", *arguments],
            env=os.environ
            | {"XDG_STATE_HOME": str(tmp_path), "TERM": term, "COLUMNS": "80", "PROMPT_TOOLKIT_NO_CPR": "1"},
            timeout=TIMEOUT_S,
            encoding="utf-8",
            dimensions=(24, 80),
        )
        opened.append(child)
        return child

    yield start
    for child in opened:
        child.close(force=True)


def told(child: Any) -> dict[str, Any]:
    """What the model is given when it is asked for it."""
    child.expect_exact(">>> ")
    child.send("/set nowordwrap\r")
    child.expect_exact("Set nowordwrap.")
    child.send("repeat\r")
    child.expect(r'\{"messages".*\}\r\n')
    value: dict[str, Any] = json.loads(child.after)
    return value


def test_ctrl_c_keeps_what_was_said(terminal: Open) -> None:
    child = terminal()
    child.expect_exact(">>> ")
    child.send("slow\r")
    child.expect_exact("begun")
    child.sendintr()
    child.expect_exact("(stopped)")
    roles = [message["role"] for message in told(child)["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_ctrl_c_before_the_first_word_takes_the_question_back(terminal: Open) -> None:
    child = terminal()
    child.expect_exact(">>> ")
    child.send("silent\r")
    child.expect_exact("asked")
    child.sendintr()
    child.expect_exact("(stopped)")
    assert [message["content"] for message in told(child)["messages"]] == ["repeat"]


def test_the_system_prompt_and_the_parameters_reach_the_model(terminal: Open) -> None:
    child = terminal("--system", "Be brief.", "--temperature", "0.5", "--format", "json")
    given = told(child)
    assert given["given"] == {
        "tools": None,
        "run_tools": True,
        "context": "shift",
        "loop_guard": True,
        "format": "json",
        "temperature": 0.5,
    }
    assert given["messages"][0] == {"role": "system", "content": "Be brief.\nAnswer with JSON only."}


def test_quotes_make_a_message_of_what_looks_like_a_command(terminal: Open) -> None:
    child = terminal()
    child.expect_exact(">>> ")
    child.send('"""/etc\r')
    child.expect_exact("...")
    child.send('is "a folder"\r')
    child.send('"""\r')
    child.expect_exact("asked")
    assert told(child)["messages"][0]["content"] == '/etc\nis "a folder"'


def test_a_system_prompt_of_several_lines(terminal: Open) -> None:
    child = terminal()
    child.expect_exact(">>> ")
    child.send('/set system """Be\r')
    child.expect_exact("...")
    child.send('brief."""\r')
    child.expect_exact("Set system")
    assert told(child)["messages"][0] == {"role": "system", "content": "Be\nbrief."}


def test_thinking_can_be_hidden() -> None:
    shown, hidden = piped("think"), piped("think", "--hide-thinking")
    assert "let me see\n\n" in shown.stderr
    assert "let me see" not in hidden.stderr
    assert shown.stdout == hidden.stdout == "thought\n"


@pytest.mark.parametrize(
    ("answer", "code", "warning"), [('{"a": 1}', 0, ""), ("no", 1, "the answer is not JSON"), ("", 1, "not JSON")]
)
def test_json_is_checked(answer: str, code: int, warning: str) -> None:
    done = piped(f"say {answer}", "--format", "json")
    assert done.returncode == code
    assert done.stdout.strip() == answer
    assert warning in done.stderr


@pytest.mark.parametrize(("messages", "what"), [(0, "120 tokens"), (1, "1 message, 120 tokens"), (4, "4 messages, ")])
def test_what_was_left_out_is_said(messages: int, what: str) -> None:
    done = piped(f"forget {messages}")
    assert done.stdout == "what?\n"
    assert f"(left out to fit the context window of 4096 tokens: {what}" in done.stderr


def test_an_answer_that_repeats_itself_says_why_it_ended(tmp_path: Path) -> None:
    (tmp_path / "rules.gbnf").write_text('root ::= "on and on"*')
    done = piped("loop")
    assert (done.returncode, done.stdout) == (0, "on and on\n")
    assert "the answer repeats itself: --no-loop-guard" in done.stderr
    cut = piped("loop", "--grammar", str(tmp_path / "rules.gbnf"))
    assert cut.returncode == 1
    assert "the answer was cut before its grammar was complete" in cut.stderr


def test_the_context_and_the_guard_reach_the_model(terminal: Open) -> None:
    """A conversation lets its oldest turns go; one answer is about all it was given."""

    def of(given: dict[str, Any]) -> tuple[str, bool]:
        return given["given"]["context"], given["given"]["loop_guard"]

    assert of(json.loads(piped("repeat").stdout)) == ("error", True)
    assert of(json.loads(piped("repeat", "--context", "truncate", "--no-loop-guard").stdout)) == ("truncate", False)
    child = terminal()
    assert of(told(child)) == ("shift", True)
    for command in ("/set context truncate", "/set noloopguard"):
        child.expect_exact(">>> ")
        child.send(command + "\r")
        child.expect_exact(f"Set {command.removeprefix('/set ')}.")
    assert of(told(child)) == ("truncate", False)
    assert of(told(terminal("--context", "error"))) == ("error", True)


MARKDOWN = r"say some **bold** words\n\n- one\n- two"


def test_markdown_in_a_terminal(terminal: Open) -> None:
    child = terminal(MARKDOWN)
    child.expect(pexpect.EOF)
    shown = re.sub(r"\x1b\[[\d;]*[mK]", "", child.before)
    assert "some bold words\r\n" in shown
    assert " • two\r\n" in shown


@pytest.mark.parametrize(("flags", "term"), [(["--nowordwrap"], "xterm"), (["--plain"], "xterm"), ([], "dumb")])
def test_no_markdown_where_none_is_wanted(flags: list[str], term: str, terminal: Open) -> None:
    child = terminal(MARKDOWN, *flags, term=term)
    child.expect(pexpect.EOF)
    assert "some **bold** words\r\n\r\n- one\r\n- two\r\n" in child.before


@pytest.mark.parametrize(("variable", "colours"), [("NO_COLOR", False), ("OTHER", True)])
def test_colours_can_be_switched_off(
    variable: str, colours: bool, terminal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, "1")
    child = terminal(r"say some **bold** words\n\n```python\nfor x in 1, 2: pass\n```")
    child.expect(pexpect.EOF)
    assert bool(re.search(r"\x1b\[(\d+;)*[39]\d", child.before)) == colours
    assert "bold" in re.sub(r"\x1b\[[\d;]*[mK]", "", child.before)
    child = terminal("think")
    child.expect(pexpect.EOF)
    assert ("\x1b[2mlet" in child.before) == colours


def test_a_dumb_terminal_gets_no_escapes(terminal: Open) -> None:
    child = terminal("think", term="dumb")
    child.expect(pexpect.EOF)
    assert "let me see" in child.before
    assert "\x1b" not in child.before


def test_a_pipe_gets_the_text_as_it_is() -> None:
    assert piped(MARKDOWN).stdout == "some **bold** words\n\n- one\n- two\n"


def test_a_left_model_is_closed_or_kept_as_keep_alive_says(terminal: Open) -> None:
    now, later, never = terminal(), terminal("--keep-alive", "10ms"), terminal("--keep-alive", "-1")
    for child in (now, later, never):
        child.expect_exact(">>> ")
        child.send("/load second\r")
        child.expect_exact("opened second")
    now.expect_exact("closed first")
    later.expect_exact("closed first")
    never.expect_exact(">>> ")
    never.send("/load first\r")
    never.expect_exact("Loaded first.")
    assert "opened" not in never.before
    never.expect_exact(">>> ")
    never.send("/bye\r")
    never.expect(pexpect.EOF)
    assert re.findall(r"closed \w+", never.before) == ["closed second", "closed first"]


def test_a_wrong_duration_is_a_mistake() -> None:
    done = piped("say hi", "--keep-alive", "soon")
    assert done.returncode == 2
    assert "'soon' is not a duration" in done.stderr


TOOLS = '''
import headrace

def delete(name: str) -> str:
    """Deletes a file."""
    return f"{name} is gone"

@headrace.safe
def look(name: str) -> str:
    """Looks at a file."""
    return f"{name} is there"
'''


@pytest.fixture
def own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_tools.py").write_text(TOOLS)
    monkeypatch.chdir(tmp_path)


OWN = ("--tool", "own_tools:delete", "--tool", "own_tools:look")


@pytest.mark.usefixtures("own_tools")
def test_without_a_terminal_a_tool_that_is_not_safe_does_not_run() -> None:
    refused = piped("call delete a.txt", *OWN)
    assert '→ delete(name="a.txt")' in refused.stderr
    assert "there is no terminal to ask on, and --trust-tools was not given" in refused.stderr
    assert "← error: delete was not run: nobody could be asked" in refused.stderr
    assert "← a.txt is gone" in piped("call delete a.txt", *OWN, "--trust-tools").stderr
    assert "← a.txt is there" in piped("call look a.txt", *OWN).stderr


@pytest.mark.usefixtures("own_tools")
def test_a_terminal_is_asked_before_a_tool_runs(terminal: Open) -> None:
    child = terminal(*OWN)
    for key, shown in (("n", "the user does not want it"), ("y", "a.txt is gone"), ("a", "a.txt is gone")):
        child.expect_exact(">>> ")
        child.send("call delete a.txt\r")
        child.expect_exact('Run delete(name="a.txt")? [y]es, [n]o, [a]lways: ')
        child.send(key)
        child.expect_exact(shown)
    child.expect_exact(">>> ")
    child.send("call delete b.txt\r")  # always means always
    child.expect_exact("b.txt is gone")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--tool", "nonsense"), "--tool 'nonsense' names no function: write module:function"),
        (("--tool", "nowhere:f"), "--tool 'nowhere:f' cannot be found: ModuleNotFoundError"),
        (("--tool", "json:nothing"), "--tool 'json:nothing' cannot be found: AttributeError"),
        (("--tool", "sys:path"), "--tool 'sys:path' is a list: expected a function"),
        (("--format", "nowhere.json"), "there is no file 'nowhere.json'"),
        (("--format", __file__), "not valid JSON"),
        (("--format", ""), "--format is empty: give json, or a file"),
        (("--format", "/"), "'/' is a folder: give json, or a file"),
        (("--grammar", "rules.txt"), "rules.txt is no grammar by its name: expected .gbnf or .lark"),
        (("--format", "json", "--grammar", "x.gbnf"), "give one of them"),
    ],
)
def test_what_a_flag_cannot_be(flags: tuple[str, ...], sentence: str) -> None:
    done = piped("say x", *flags)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_the_form_of_an_answer_reaches_the_model(tmp_path: Path) -> None:
    schema, grammar = tmp_path / "schema.json", tmp_path / "rules.gbnf"
    schema.write_text('{"type": "object"}')
    grammar.write_text('root ::= "a"')
    given = json.loads(piped("repeat", "--format", str(schema), "--tool-choice", "required", "--no-think").stdout)
    assert given["given"]["format"] == {"type": "object"}
    assert given["given"]["tool_choice"] == "required"
    assert given["given"]["think"] is False
    assert 'fits this JSON schema: {"type": "object"}' in given["messages"][0]["content"]
    given = json.loads(piped("repeat", "--grammar", str(grammar), "--think").stdout)
    assert given["given"]["format"] == {"gbnf": 'root ::= "a"'}
    assert given["given"]["think"] is True
    assert [message["role"] for message in given["messages"]] == ["user"]
