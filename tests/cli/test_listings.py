"""--json of every listing: JSON alone on stdout, under names that stay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner, Result

from headrace import nano
from headrace.cli import headrace as cli
from headrace.library.home import own_store
from tests.fake_ollama import Fake, fake
from tests.library.stores import install

PLACE = {"purpose", "path", "origin", "exists", "free_bytes", "problem"}
MODEL = {"name", "origin", "digest", "size_bytes", "modified", "problem"}
CACHE = {"name", "path", "model", "tokens", "size_bytes", "saved_at", "damage"}
SUMMARY = {"id", "name", "begun_at", "last_at", "model", "server", "turn_count", "title"}
LOADED = {"name", "size_bytes", "state", "num_ctx", "until", "in_flight", "running", "waiting"} | {
    f"cache_{what}" for what in ("tokens", "bytes", "capacity_bytes")
}
FACTS = {
    *("name", "path", "architecture", "parameters", "hidden_size", "layers", "attention", "experts", "quantisation"),
    *("context", "tokenizer", "template", "defaults", "memory", "license", "preset"),
}
REPORT = {
    *("version", "processors", "instruction_sets", "memory", "measured", "places", "log", "settings", "models"),
    "findings",
}
DATA = {"settings", "quantisation"}  # whose names are variables, kinds of tensors and their types


class Listing(NamedTuple):
    """A command, the names of its object or of the objects in its list, and whether it is a list."""

    arguments: tuple[str, ...]
    names: set[str]
    is_list: bool = True


LISTINGS = [
    Listing(("list",), MODEL),
    Listing(("list", "--available"), {"name", "size_bytes", "memory_bytes", "source", "license"}),
    Listing(("ps",), LOADED),
    Listing(("verify",), {"name", "whole", "damaged"}),
    Listing(("log",), SUMMARY),
    Listing(("log", "1"), {*SUMMARY, "turns"}, is_list=False),
    Listing(("cache", "list"), CACHE),
    Listing(("cache", "show", "some"), {*CACHE, "kv", "isa", "block_tokens", "model_digest"}, is_list=False),
    Listing(("show", "mine"), FACTS, is_list=False),
    Listing(("show", "nano", "--license"), {"name", "url", "texts"}, is_list=False),
    *(
        Listing(("show", "nano", f"--{name}"), {name}, is_list=False)
        for name in ("modelfile", "template", "system", "parameters")
    ),
    Listing(("doctor",), REPORT, is_list=False),
]
MEASURED = {"bench"}  # which takes its time: tests/test_bench.py
of_each = pytest.mark.parametrize("listing", LISTINGS, ids=lambda listing: " ".join(listing.arguments))


@pytest.fixture(scope="module")
def server() -> Iterator[Fake]:
    with fake() as one:
        yield one


@pytest.fixture(autouse=True)
def place(tmp_path: Path, server: Fake, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEADRACE_HOST", server.url)
    return tmp_path


@pytest.fixture
def full(place: Path) -> Path:
    """One of everything."""
    headrace("create", "mine", "--from", str(nano.FILE), "--parameter", "num_predict=2", "--parameter", "stop=x")
    headrace("run", "mine", "Hi")
    headrace("cache", "save", "some", "--system", "Be brief. " * 60)
    return place


def headrace(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], catch_exceptions=False)


def told(listing: Listing) -> Any:
    result = headrace(*listing.arguments, "--json")
    assert result.exit_code == 0 or listing.arguments == ("doctor",)  # which may have found something
    return json.loads(result.stdout)


def names(value: Any) -> Iterator[str]:
    """Of all fields, however deep."""
    match value:
        case dict():
            yield from value
            for name, inner in value.items():
                yield from () if name in DATA else names(inner)
        case list():
            for inner in value:
                yield from names(inner)


@of_each
def test_it_is_json_and_nothing_else(listing: Listing, full: Path) -> None:  # noqa: ARG001
    value = told(listing)
    assert isinstance(value, list) is listing.is_list
    rows = value if listing.is_list else [value]
    assert rows
    for row in rows:
        assert row.keys() == listing.names
    for name in names(value):
        assert re.fullmatch(r"[a-z][a-z0-9_]*|[0-9]+", name), f"{name} is neither a word nor a number of tokens"


@of_each
def test_where_there_is_nothing_it_is_an_empty_list(listing: Listing, server: Fake, monkeypatch: Any) -> None:
    monkeypatch.setattr(server, "running", [])
    if listing.arguments[0] in ("ps", "verify", "log", "cache") and listing.is_list:
        assert told(listing) == []
        assert headrace(*listing.arguments).exit_code == 0
    elif listing.arguments == ("list",):
        assert {row["origin"] for row in told(listing)} == {"installed"}


def test_what_is_damaged_is_json_too(place: Path) -> None:  # noqa: ARG001
    manifest = install(own_store(), "mine", params=b"{}")
    own_store().blob(manifest.of("params")[0].digest).write_bytes(b"[]")
    result = headrace("verify", "mine", "--json")
    assert result.exit_code == 1
    ((part,),) = [row["damaged"] for row in json.loads(result.stdout)]
    assert part.keys() == {"kind", "digest", "problem"}
    assert part["digest"] == manifest.of("params")[0].digest


def commands(group: click.Group, context: click.Context, *before: str) -> Iterator[tuple[str, ...]]:
    """Of those that have --json."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, context, name)
        elif command and any("--json" in option.opts for option in command.params):
            yield (*before, name)


def test_every_command_that_has_json_is_here() -> None:
    known = {listing.arguments for listing in LISTINGS}
    for command in commands(cli, click.Context(cli)):
        assert command[0] in MEASURED or any(one[: len(command)] == command for one in known)
