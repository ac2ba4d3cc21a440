"""The options of how a model is run, and the variable of each, where it means something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from headrace.cli import _session, cache, main, run, serve

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "num_ctx": "HEADRACE_NUM_CTX",
    "kv": "HEADRACE_KV",
    "threads": "HEADRACE_THREADS",
    "cache_bytes": "HEADRACE_CACHE_BYTES",
    "keep_alive": "HEADRACE_KEEP_ALIVE",
    "max_queue": "HEADRACE_MAX_QUEUE",
    "max_models": "HEADRACE_MAX_MODELS",
}
# of each: what it is given, and what becomes of that
VALUES: dict[str, tuple[str, Any]] = {
    "num_ctx": ("512", 512),
    "kv": ("int8", "int8"),
    "threads": ("3", 3),
    "cache_bytes": ("2MiB", 2 << 20),
    "keep_alive": ("90s", 90.0),
}
OTHERS = {"num_ctx": "256", "kv": "fp16", "threads": "1", "cache_bytes": "1MiB", "keep_alive": "1s"}
HERE = ("num_ctx", "kv", "threads", "cache_bytes")
AT_A_SERVER = ("num_ctx", "keep_alive")
RUNTIME = {"kv": "kv", "threads": "threads", "cache_bytes": "cache_bytes", "keep_alive": "keep_alive_s"}
Given = dict[str, Any]
Ask = Callable[..., Given]


class Nobody:
    """In place of a conversation."""

    def answer(self, question: str) -> bool:
        return bool(question)

    def close(self) -> None:
        pass


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What a conversation, or its model, would be given by these options and variables."""
    given = Given()
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)

    def opened(*asked: Any) -> Nobody:
        _, settings, _, runtime, num_ctx, *_ = asked
        given.update(num_ctx=num_ctx, former_s=settings.keep_alive_s)
        for name, attribute in RUNTIME.items():
            given[name] = getattr(runtime, attribute, None)
        return Nobody()

    def asked(*options: str, **variables: str) -> Given:
        given.clear()
        with monkeypatch.context() as patched:
            patched.setattr(_session.Session, "open", opened)
            patched.setattr(run, "one_shot_prompt", lambda *_: "Hi")
            for name, value in variables.items():
                patched.setenv(VARIABLES[name], value)
            main(["run", "nano", "Hi", *options])
        return dict(given)

    return asked


def option(command: click.Command, name: str) -> click.Option | None:
    return next((one for one in command.params if one.opts == [flag(name)] and isinstance(one, click.Option)), None)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@pytest.mark.parametrize("name", VARIABLES)
def test_every_command_that_has_the_option_has_the_variable_and_shows_it(name: str) -> None:
    commands = [serve.command, run.command, cache.command.commands["save"]]
    found = [one for command in commands if (one := option(command, name))]
    assert len(found) == {"keep_alive": 2, "max_queue": 1, "max_models": 1}.get(name, 3)
    assert {one.envvar for one in found} == {VARIABLES[name]}
    assert all(one.show_envvar for one in found)
    assert option(serve.command, name), "the table is the server's"


@pytest.mark.parametrize("name", HERE)
def test_a_variable_does_what_the_option_does_here(name: str, ask: Ask) -> None:
    text, becomes = VALUES[name]
    assert ask(flag(name), text) == ask(**{name: text})
    assert ask(**{name: text})[name] == becomes != ask()[name]
    assert ask(flag(name), text, **{name: OTHERS[name]})[name] == becomes, "what stands on the line counts"
    assert ask(**{name: ""}) == ask()


@pytest.mark.parametrize("name", AT_A_SERVER)
def test_a_variable_does_what_the_option_does_at_a_server(name: str, ask: Ask) -> None:
    host, (text, becomes) = ("--host", "http://127.0.0.1:9"), VALUES[name]
    assert ask(*host, flag(name), text) == ask(*host, **{name: text})
    assert ask(*host, **{name: text})[name] == becomes != ask(*host)[name]
    assert ask(*host, flag(name), text, **{name: OTHERS[name]})[name] == becomes


def test_how_long_servers_keep_a_model_is_not_how_long_it_is_kept_here(ask: Ask) -> None:
    assert ask(keep_alive="90s")["former_s"] == 0
    assert ask(keep_alive="nonsense") == ask()
    assert ask("--keep-alive", "90s", keep_alive="1s")["former_s"] == 90


def test_what_a_server_decides_itself_may_still_be_set_for_what_runs_here(ask: Ask) -> None:
    host = ("--host", "http://127.0.0.1:9")
    elsewhere = {name: VALUES[name][0] for name in HERE if name not in AT_A_SERVER}
    assert ask(*host, **elsewhere) == ask(*host)


@pytest.mark.parametrize("name", VALUES)
def test_a_variable_that_is_wrong_says_so(name: str, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    host = ("--host", "http://127.0.0.1:9") if name == "keep_alive" else ()
    with pytest.raises(SystemExit) as stopped:
        ask(*host, **{name: "nonsense"})
    assert stopped.value.code == 2
    assert flag(name) in capsys.readouterr().err


@pytest.mark.parametrize("variable", VARIABLES.values())
def test_the_documents_name_it(variable: str) -> None:
    assert f"`{variable}`" in (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("a.gguf", ["a.gguf"]),
        ("a.gguf:/b/c", ["a.gguf", "/b/c"]),
        ("lfm2:8b", ["lfm2:8b"]),
        ("/b/c:lfm2:8b:x=maternion/lfm2:24b:./d", ["/b/c", "lfm2:8b", "x=maternion/lfm2:24b", "./d"]),
        ("nano:lfm2:8b", ["nano", "lfm2:8b"]),
        ("lfm2:8b:nano:", ["lfm2:8b", "nano"]),
        ("there:8b", ["there", "8b"]),
    ],
)
def test_several_models_in_one_variable(
    text: str, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    monkeypatch.setenv("HEADRACE_MODEL", text)
    assert serve.command.make_context("serve", []).params["models"] == tuple(models)
