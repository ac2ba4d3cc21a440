"""Options of `headrace serve`, and the environment variable of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest

from headrace.cli import cache, main, run, serve
from headrace.keys import Key
from headrace.server import log, start
from headrace.server.start import Settings

Ask = Callable[..., Settings]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What a server would be given by these options."""
    for option in serve.command.params:
        if option.envvar:
            monkeypatch.delenv(str(option.envvar), raising=False)
    given = list[Settings]()
    monkeypatch.setattr(start, "serve", lambda settings, _: given.append(settings))
    monkeypatch.setattr(log, "set_up", lambda _: None)  # which is for a process of its own

    def asked(*options: str, **variables: str) -> Settings:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(f"HEADRACE_{name}", value)
            main(["serve", *options])
        return given.pop()

    return asked


def test_nothing_said(ask: Ask) -> None:
    assert ask() == Settings()


# option, what it is given, its variable, what becomes of it
OPTIONS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("--host", "127.0.0.2", "HOST", {"host": "127.0.0.2"}),
    ("--host", "localhost:8080", "HOST", {"host": "localhost", "port": 8080}),
    ("--host", "http://127.0.0.1:8080", "HOST", {"port": 8080}),
    ("--host", "http://localhost/", "HOST", {"host": "localhost"}),
    ("--host", "[::1]:8080", "HOST", {"host": "::1", "port": 8080}),
    ("--host", "::1", "HOST", {"host": "::1"}),
    ("--host", ":8080", "HOST", {"port": 8080}),
    ("--port", "8080", "PORT", {"port": 8080}),
    ("--model", "two=a b.gguf", "MODEL", {"models": ("two=a b.gguf",)}),
    ("--num-ctx", "512", "NUM_CTX", {"num_ctx": 512}),
    ("--threads", "1", "THREADS", {"threads": 1}),
    ("--kv", "int8", "KV", {"kv": "int8"}),
    ("--cache-bytes", "2MiB", "CACHE_BYTES", {"cache_bytes": 2 << 20}),
    ("--keep-alive", "90s", "KEEP_ALIVE", {"keep_alive_s": 90.0}),
    ("--max-models", "2", "MAX_MODELS", {"max_models": 2}),
    ("--max-queue", "7", "MAX_QUEUE", {"max_queue": 7}),
    ("--api-key", "secret", "API_KEY", {"keys": (Key("secret"),)}),
    ("--allow-host", "models.example", "ALLOW_HOST", {"hosts": {"models.example"}}),
    ("--allow-origin", "https://app.example", "ALLOW_ORIGIN", {"origins": {"https://app.example"}}),
    ("--max-body", "1MB", "MAX_BODY", {"body_bytes": 1_000_000}),
    ("--deadline", "2m", "DEADLINE", {"deadline_s": 120.0}),
    ("--grace", "1s", "GRACE", {"grace_s": 1.0}),
]


@pytest.mark.parametrize(("option", "value", "variable", "becomes"), OPTIONS)
def test_an_option_and_its_variable(option: str, value: str, variable: str, becomes: dict[str, Any], ask: Ask) -> None:
    for settings in (ask(option, value), ask(**{variable: value})):
        for name, expected in becomes.items():
            found = getattr(settings.doors if name in ("keys", "hosts", "origins") else settings, name)
            assert found == expected
    if variable != "HOST":  # what stands on the line counts
        assert ask(option, value) == ask(option, value, **{variable: _other(value)})


def _other(value: str) -> str:
    return {"int8": "fp16", "2": "1"}.get(value, "2" if value[0].isdigit() else "https://x.example")


def test_every_variable_is_tested() -> None:
    named = {f"HEADRACE_{variable}" for _, _, variable, _ in OPTIONS}
    named |= {"HEADRACE_API_KEY_FILE", "HEADRACE_INSECURE", "HEADRACE_LOG_FORMAT", "HEADRACE_LOG_PROMPTS"}
    options = [option for option in serve.command.params if option.name != "help"]
    assert {str(option.envvar) for option in options} == named
    assert all(isinstance(option, click.Option) and option.show_envvar for option in options)


def test_a_port_that_is_said_counts(ask: Ask) -> None:
    assert ask("--port", "1", HOST="localhost:2").port == 1
    assert ask(PORT="1", HOST="localhost:2").port == 1
    assert ask("--port", "11434", HOST="localhost:2").port == 11434


def test_variables_of_several(ask: Ask) -> None:
    assert ask(MODEL="a.gguf:two=b.gguf").models == ("a.gguf", "two=b.gguf")
    assert [key.secret for key in ask(API_KEY="one two").doors.keys] == ["one", "two"]
    scoped = (Key("one", frozenset({"infer"})), Key("two", frozenset({"manage"})))
    assert ask(API_KEY="one:infer two:manage").doors.keys == scoped
    assert ask("--api-key", "one:infer", "--api-key", "two:manage").doors.keys == scoped
    assert ask(ALLOW_HOST="a.example b.example").doors.hosts == {"a.example", "b.example"}
    assert ask(API_KEY="").doors.keys == ()


def test_flags_and_files(ask: Ask, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alpha infer\n")
    assert ask("--host", "0.0.0.0", INSECURE="1").host == "0.0.0.0"
    assert ask("--host", "0.0.0.0", API_KEY_FILE=str(keys)).doors.keys == (Key("alpha", frozenset({"infer"})),)
    assert ask(LOG_PROMPTS="true").log_prompts
    forms = list[str]()
    monkeypatch.setattr(log, "set_up", forms.append)
    ask(LOG_FORMAT="json")
    assert forms == ["json"]
    with pytest.raises(SystemExit) as stopped:
        ask("--host", "0.0.0.0", INSECURE="0")
    assert stopped.value.code == 2


def test_run_and_cache_read_those_that_they_share() -> None:
    shared = {"num_ctx", "threads", "kv", "cache_bytes"}
    for command in (run.command, cache.command.commands["save"]):
        found = {option.name: option.envvar for option in command.params if option.name in shared}
        assert found == {name: f"HEADRACE_{name.upper()}" for name in shared}
