"""Completion: what click is told, what is imported for it, and what a real Bash makes of it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from click.shell_completion import FishComplete, ShellComplete, ZshComplete
from click.testing import CliRunner

from headrace.cli import COMPLETE, PROGRAM
from headrace.cli import headrace as cli
from headrace.library import family
from headrace.library.home import own_store
from headrace.library.store import Store
from tests.library.stores import install

PUBLISHED = [str(name) for name in family.sources()]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in each store, and a program that can be called."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("headrace.packaged.installed", lambda: iter(()))
    install(own_store(), "mine:8b")
    install(own_store(), "minor")
    install(Store(tmp_path / "ollama"), "maternion/lfm2:8b")
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "b-Q4_0.gguf").touch()
    (snapshot / "model.safetensors").touch()
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c 'import headrace.cli as c; c.main()' \"$@\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completed(line: str) -> list[str]:
    """What fits behind a line; a file as <file>."""
    *arguments, incomplete = line.split(" ")
    found = ShellComplete(cli, {}, PROGRAM, COMPLETE).get_completions(arguments, incomplete)
    return [one.value if one.type == "plain" else f"<{one.type}>" for one in found]


HERE = ["nano", "mine:8b", "minor", "maternion/lfm2:8b", "hf.co/a/b", "hf.co/a/b:Q4_0"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ru", ["run"]),
        ("cache ", ["list", "rm", "save", "show"]),
        ("run ", [*HERE, *PUBLISHED]),
        ("run MI", ["mine:8b", "minor"]),
        ("run lfm2:8", ["lfm2:8b"]),
        ("run ./weights", ["<file>"]),
        ("run nano ", []),
        ("show ", HERE),
        ("export ", HERE),
        ("export nano ", ["<file>"]),
        ("bench --json hf.co/a/b:", ["hf.co/a/b:Q4_0"]),
        ("stop m", ["mine:8b", "minor", "maternion/lfm2:8b"]),
        ("stop ./", []),
        ("pull ", [*PUBLISHED, "mine:8b", "minor"]),
        ("rm ", ["mine:8b", "minor"]),
        ("rm minor ", ["mine:8b"]),
        ("cp ", HERE),
        ("push m", ["mine:8b", "minor"]),
        ("verify mine:8b mi", ["minor"]),
        ("create x --from na", ["nano"]),
        ("create x -f ", ["<file>"]),
        ("create x --quantize q", ["q4_0", "q8_0"]),
        ("serve --model mino", ["minor"]),
        ("serve --api-key-file ", ["<file>"]),
        ("cache save x --model na", ["nano"]),
        ("run nano -f ", ["<file>"]),
        ("run nano --system-file ", ["<file>"]),
        ("run nano --context s", ["shift"]),
        ("show --modelf", ["--modelfile"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("help ru", ["run"]),
        ("help cache s", ["save", "show"]),
        ("help run n", []),
        ("help nonesuch r", ["rm", "run"]),
    ],
)
def test_what_fits(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_what_cannot_be_read_is_passed_over(place: Path) -> None:
    (place / "home" / "models" / "manifests").rename(place / "home" / "models" / "elsewhere")
    (place / "home" / "models" / "manifests").symlink_to("manifests")
    assert completed("run m") == ["maternion/lfm2:8b"]


@pytest.mark.parametrize("line", ["headrace ", "headrace run ", "headrace rm m", "headrace show -", "headrace pull l"])
def test_it_imports_neither_numpy_nor_the_engine(line: str) -> None:
    code = (
        "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr));"
        "from headrace.cli import main; main([])"
    )
    environment = os.environ | {COMPLETE: "bash_complete", "COMP_WORDS": line}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("plain,")
    loaded = json.loads(done.stderr)
    heavy = {
        "numpy",
        "httpx",
        "rich",
        "jinja2",
        "tokenizers",
        "headrace._core",
        "headrace.checkpoint",
        "headrace.model",
    }
    assert "headrace.cli" in loaded
    assert not heavy & set(loaded)


def script(shell: str) -> str:
    return CliRunner().invoke(cli, ["completion", shell], catch_exceptions=False).stdout


@pytest.mark.parametrize(("shell", "kind"), [("zsh", ZshComplete), ("fish", FishComplete)])
def test_scripts_of_other_shells_are_clicks(shell: str, kind: type[ShellComplete]) -> None:
    assert script(shell) == kind(cli, {}, "headrace", "_HEADRACE_COMPLETE").source()
    assert "_HEADRACE_COMPLETE=" in script(shell)


@pytest.fixture
def shell(place: Path) -> Iterator[pexpect.spawn]:
    quiet = "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; PS1=READY"
    (place / "rc").write_text(f'eval "$(headrace completion bash)"\n{quiet}\n')
    environment = os.environ | {"TERM": "dumb"}
    child = pexpect.spawn(
        "bash",
        ["--rcfile", str(place / "rc"), "-i"],
        env=environment,
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 200),
    )
    child.expect("READY")
    yield child
    child.close(force=True)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("headrace ru\t", "headrace run "),
        ("headrace pull lfm2:8\t", "headrace pull lfm2:8b "),
        ("headrace pull LFM2:8\t", "headrace pull LFM2:8b "),
        ("headrace rm mine\t", "headrace rm mine:8b "),
        ("headrace run hf.co/a/b:\t", "headrace run hf.co/a/b:Q4_0 "),
        ("headrace cache save x --model=mine:\t", "headrace cache save x --model=mine:8b "),
        ("headrace show bi\t", "headrace show bin/"),
        ("bin/headrace verify mino\t", "bin/headrace verify minor "),
        ("cat rc | headrace stop mino\t", "cat rc | headrace stop minor "),
    ],
)
def test_bash_completes(shell: pexpect.spawn, typed: str, line: str) -> None:
    shell.send(typed)
    shell.expect_exact(line)
