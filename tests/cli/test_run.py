"""The command line as a user meets it: a process, its output, its exit code; the conversation in a real terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

import headrace
from headrace.cli.run import one_shot_prompt
from tests import random_models

HEADRACE = [sys.executable, "-c", "from headrace.cli import main; main()"]


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADRACE, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def test_one_answer_with_the_call_beside_it() -> None:
    done = run("run", "nano", "What is 37 * 12?")
    assert done.returncode == 0
    assert "444" in done.stdout
    assert "calculate(" not in done.stdout
    assert 'calculate(expression="37 * 12")' in done.stderr


def test_piped_text_follows_the_prompt() -> None:
    assert "444" in run("run", "nano", stdin="What is 37 * 12?\n").stdout
    joined = run("run", "nano", "What is", stdin="37 * 12?")
    assert "444" in joined.stdout
    assert joined.returncode == 0


def test_an_answer_of_a_given_form_is_no_tool_call(tmp_path: Path) -> None:
    """nano's own tools are not offered beside a form, unless they are asked for."""
    schema = tmp_path / "schema.json"
    properties = {"sum": {"type": "integer", "maximum": 99}}
    form = {"type": "object", "properties": properties, "required": ["sum"], "additionalProperties": False}
    schema.write_text(json.dumps(form))
    done = run("run", "nano", "What is 37 * 12?", "--format", str(schema), "--num-predict", "40")
    assert "calculate" not in done.stderr
    assert set(json.loads(done.stdout)) == {"sum"}
    asked = run("run", "nano", "What is 37 * 12?", "--format", "json", "--tools", "builtin", "--num-predict", "40")
    assert "calculate" in asked.stderr


@pytest.mark.parametrize(
    ("prompt", "piped", "whole"),
    [("Sum up:", "a text\n", "Sum up:\na text"), (None, "hello", "hello"), ("hello", " \n", "hello")],
)
def test_the_prompt_and_what_is_piped(
    prompt: str | None, piped: str, whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    assert one_shot_prompt(prompt) == whole


def test_verbose_reports_times_and_memory() -> None:
    report = run("run", "nano", "Hi", "--verbose").stderr
    for row in ("load time", "time to first token", "prompt", "decode", "peak memory"):
        assert re.search(rf"^{row}: +\d", report, re.MULTILINE)


def test_flags_reach_the_sampler() -> None:
    assert run("run", "nano", "Hello", "--num-predict", "1").stdout != run("run", "nano", "Hello").stdout
    seeds = [
        run("run", "nano", "Hello", "--temperature", "8", "--num-predict", "20", "--seed", seed).stdout
        for seed in ("1", "1", "2")
    ]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "nonesuch", "Hi"], "there is no model 'nonesuch'"),
        (["run", "nano", "Hi", "--temperature", "-1"], "temperature is -1.0 but should be a number from 0 to 100"),
        (["run", "nano", "Hi", "--num-ctx", "0"], "num_ctx is 0 but should be"),
        (["run", "nano", "Hi", "--top-k", "many"], "'many' is not a valid integer"),
        (["run", "nano"], "there is no prompt"),
        (["rnu"], "No such command 'rnu'"),
        (["run", "nano", "Hi", "--num-ctx", "64"], "but the context window holds 64"),
        (["run", str(Path(__file__)), "Hi"], "not a GGUF file"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_what_does_not_fit_is_left_out_and_said() -> None:
    arguments = ("run", "nano", "--tools", "none", "--num-ctx", "256", "--num-predict", "5")
    refused = run(*arguments, stdin="word " * 3000)
    assert refused.returncode == 2
    assert "let it be cut with --context" in refused.stderr
    cut = run(*arguments, "--context", "truncate", stdin="word " * 3000)
    assert cut.returncode == 0
    assert re.search(r"^\(left out to fit the context window of 256 tokens: \d{4} tokens\)$", cut.stderr, re.MULTILINE)


def test_a_window_beyond_the_model_card_is_a_warning(tmp_path: Path) -> None:
    path = random_models.save_gguf(random_models.dense(max_position_embeddings=40_000), tmp_path / "long.gguf")
    long, short = (run("run", str(path), "Hi", "--num-predict", "1", "--num-ctx", size) for size in ("33000", "32768"))
    assert (long.returncode, short.returncode) == (0, 0)
    assert "Warning: the model card says 32,768 tokens" in long.stderr
    assert "Warning" not in short.stderr


def test_help_and_version() -> None:
    assert run("--version").stdout == f"headrace {headrace.__version__}\n"
    text = run("run", "--help").stdout
    flags = "--temperature --top-k --top-p --min-p --repeat-penalty --seed --stop --num-predict --num-ctx --threads"
    assert all(flag in text for flag in flags.split())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Any]:
    environment = os.environ | {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    environment["PROMPT_TOOLKIT_NO_CPR"] = "1"  # nobody answers where the cursor is
    child = pexpect.spawn(HEADRACE[0], [*HEADRACE[1:], "run"], env=environment, timeout=60, encoding="utf-8")
    yield child
    child.close(force=True)


def test_a_conversation(terminal: Any, tmp_path: Path) -> None:
    terminal.expect(">>> ")
    terminal.sendline("What is 37 * 12?")
    terminal.expect("calculate")
    terminal.expect("444")
    terminal.expect(">>> ")
    terminal.sendline("/?")
    terminal.expect("/clear")
    terminal.expect("/bye")
    terminal.expect(">>> ")
    terminal.sendline("/clear")
    terminal.expect("cleared")
    terminal.expect(">>> ")
    terminal.sendline("/nonsense")
    terminal.expect("Unknown command '/nonsense'")
    terminal.sendline("/bye")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert "37 * 12" in next(tmp_path.rglob("history")).read_text()


def test_ctrl_c_keeps_the_session_and_ctrl_d_leaves_it(terminal: Any) -> None:
    terminal.expect(">>> ")
    terminal.sendintr()
    terminal.expect("Use Ctrl-D")
    terminal.expect(">>> ")
    terminal.sendline("What is 37 * 12?")
    terminal.expect("444")
    terminal.expect(">>> ")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
