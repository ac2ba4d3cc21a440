"""The program itself: its help, its commands, and what it says to who mistypes one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from headrace.cli import SECTIONS
from headrace.cli import headrace as cli

WIDTH = 80
CONTEXT = click.Context(cli, info_name="headrace")


def headrace(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], catch_exceptions=False)


def commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


def test_every_command_is_in_one_section_of_the_help() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == cli.list_commands(CONTEXT)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",), ("cache", "--help")])
def test_no_line_of_a_list_of_commands_is_cut_or_broken(arguments: tuple[str, ...]) -> None:
    result = headrace(*arguments)
    assert result.exit_code == 0
    assert result.stderr == ""
    group = cli.get_command(CONTEXT, "cache") if arguments[:1] == ("cache",) else cli
    assert isinstance(group, click.Group)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= WIDTH
    for name, command in commands(group, CONTEXT):
        (line,) = [line for line in lines if re.match(rf"  {name}  ", line)]
        assert command.short_help
        assert line.split(maxsplit=1) == [name, command.short_help]


def test_the_sections_are_in_their_order() -> None:
    titles = re.findall(r"^(\w[\w ]*):$", headrace().stdout, re.MULTILINE)
    assert titles == ["Options", *SECTIONS]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pul"], "No such command 'pul'. Did you mean 'pull'?"),
        (["pus"], "No such command 'pus'. Did you mean 'push' or 'ps'?"),
        (["xyzzy"], "No such command 'xyzzy'."),
        (["help", "sho"], "No such command 'sho'. Did you mean 'show'?"),
        (["help", "run", "x"], "'headrace run' has no commands of its own"),
        (["run", "--temprature", "1"], "No such option '--temprature'. Did you mean '--temperature'?"),
        (["--vers"], "No such option '--vers'. Did you mean '--version'?"),
    ],
)
def test_who_mistypes_is_told_what_was_meant(arguments: list[str], sentence: str) -> None:
    result = headrace(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {sentence}"
    assert result.stdout == ""


@pytest.mark.parametrize("words", [["run"], ["cache", "save"]])
def test_help_is_the_commands_own(words: list[str]) -> None:
    assert headrace("help", *words).stdout == headrace(*words, "--help").stdout


def test_the_program_is_called_headrace_however_it_was_started() -> None:
    code = "from headrace.cli import main; main(['ps', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: headrace ps ")


def test_ollamas_other_words_are_understood() -> None:
    assert headrace("ls", "--help").stdout == headrace("list", "--help").stdout
    assert headrace("help", "start").stdout == headrace("serve", "--help").stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["list"], ["--help"], ["show", "nano", "--template"]])
def test_output_that_cannot_be_written_is_a_sentence(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = started(*words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "Error: the output cannot be written (No space left on device): send it somewhere else\n"


def test_streams_may_be_closed(tmp_path: Path) -> None:
    words = ("export", "nano", str(tmp_path / "nano.gguf"))
    done = started(*words, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (0, f"Wrote {words[-1]}.\n")
    done = started("list", stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def started(*words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    code = f"from headrace.cli import main; main({words!r})"
    return subprocess.run([sys.executable, "-c", code], text=True, check=False, timeout=60, **given)
