"""docs/api.md says of what both APIs share, and of what is beside them, what is so; each test that it names exists."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
import httpx
import msgspec
import pytest

from headrace.cli import serve
from headrace.errors import (
    OUTCOMES,
    Busy,
    DeadlineExceeded,
    HeadraceError,
    RequestInvalid,
    StoreRefused,
    TooLarge,
    TooSlow,
)
from headrace.keys import Key
from headrace.server import endpoint, guard, log, ollama, openai, tokens, transport, wire, works
from headrace.server.guard import Doors
from headrace.server.start import Settings
from tests.pages import ROOT, Page, named
from tests.server.live import Live, running

PAGE = Page.of("api.md", "##")
WORDS, SECTIONS, rows = PAGE.words, PAGE.sections, PAGE.rows


# --- routes and fields


def test_every_route_beside_the_dialects_has_its_row(live: Live) -> None:
    beside = {f"{method} {one.path}" for one in tokens.routes(live.house) for method in one.methods or ()}
    told = {route for row in rows("Beside the dialects", "route") for route in named(row[0])}
    assert told == {one for one in beside if "HEAD" not in one} | {"GET /openapi.json"}


def test_every_route_that_is_served_is_on_the_page(live: Live) -> None:
    """Read off the running server; what it says of GET is so of HEAD where a dialect does not say otherwise."""
    paths = httpx.get(f"{live.url}/openapi.json").json()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    told = set(re.findall(r"`((?:GET|HEAD|POST|DELETE) /[^`]*)`", PAGE.text))
    gets = {one.replace("GET", "HEAD") for one in told if one.startswith("GET") and not re.match(r"GET /(api/|$)", one)}
    assert served == told | gets


@pytest.mark.parametrize(
    ("kind", "route"),
    [(tokens.Tokenize, "tokenize"), (tokens.Detokenize, "detokenize"), (tokens.ApplyTemplate, "apply-template")],
)
def test_every_field_beside_the_dialects_has_its_row(kind: type[wire.Fields], route: str) -> None:
    told = {
        name for row in rows("Beside the dialects", "field") if route in row[1].split(", ") for name in named(row[0])
    }
    assert told == {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", PAGE.text))))
def test_named_tests_exist(test: str) -> None:
    file, _, name = test.partition("::")
    text = (ROOT / "tests" / "server" / file).read_text(encoding="utf-8")
    assert not name or f"\ndef {name}(" in text


# --- safety

LIMITS, SETTINGS = wire.Limits(), Settings()


def _statuses(*errors: type[HeadraceError]) -> str:
    return ", ".join(str(OUTCOMES[error].http_status) for error in errors)


def test_limits_are_the_codes() -> None:
    figures = {
        "a head": (f"{LIMITS.header_bytes >> 10} KiB, {LIMITS.header_s:g} seconds", f"431, {_statuses(TooSlow)}"),
        "a body": (
            f"{LIMITS.body_bytes >> 20} MiB (`--max-body`), {LIMITS.body_s:g} seconds",
            _statuses(TooLarge, TooSlow),
        ),
        "all bodies together": (f"{endpoint.BODIES} of the largest size", _statuses(Busy)),
        "JSON": (
            f"{LIMITS.depth} levels, {LIMITS.items:,} commas and brackets",
            _statuses(RequestInvalid, TooLarge),
        ),
        "a schema, a grammar, or all tools together": (f"{LIMITS.form_bytes >> 10} KiB", _statuses(TooLarge)),
        "a template": (f"{LIMITS.template_bytes >> 10} KiB", _statuses(TooLarge)),
        "a reader that takes nothing of its answer": (f"{LIMITS.stall_s:g} seconds", "the connection ends"),
        "a connection between two requests": (f"{transport.KEEP_ALIVE_S} seconds", "it ends"),
        "requests that a connection sends before they are due": (f"{transport.MOST_AHEAD}", "it ends"),
        "a blob": (
            f"no size, but the room on the disk, and {wire.SLOWEST_BYTES >> 10} KiB in {LIMITS.stall_s:g} seconds",
            _statuses(StoreRefused, TooSlow),
        ),
        "pulls, pushes, creates, copies and blobs at a time": (f"{works.MOST_WORKS}", _statuses(Busy)),
        "connections": (
            f"{LIMITS.connections:,}, or what the system allows, if that is less",
            f"the idle ones make room; {_statuses(Busy)}",
        ),
        "requests that wait or are answered": (f"{SETTINGS.max_queue} (`--max-queue`)", _statuses(Busy)),
        "the time of a request, loading included": (
            f"{SETTINGS.deadline_s / 3600:g} hour (`--deadline`)",
            f"{_statuses(DeadlineExceeded)}; in the midst of a stream its last line",
        ),
    }
    assert {of: (limit, end) for of, limit, end in rows("Safety", "of")} == figures
    assert f"may go on for {SETTINGS.grace_s:g} seconds (`--grace`)" in WORDS
    assert f"status ({log.GONE}: the client went away" in WORDS
    assert f"the first {log.LONGEST_BODY >> 10} KiB of each" in WORDS
    assert ", ".join(f"`{scheme}:`" for scheme in ("app", "tauri", "vscode-webview", "vscode-file")) in WORDS
    assert {"app", "tauri", "vscode-webview", "vscode-file"} == guard.APP_SCHEMES


def _scope_of(method: str, url: str, client: httpx.Client) -> str:
    """By which of two keys it is let in; an empty body, and a path that has an id, end it there."""
    refused = {
        key: client.request(method, url, content=b"", headers={"x-api-key": key} if key else {}).status_code
        in (401, 403)
        for key in ("", "infer", "manage")
    }
    (scope,) = [
        scope
        for scope, shut in {"none": (), "infer": ("", "manage"), "manage": ("", "infer")}.items()
        if refused == {key: key in shut for key in refused}
    ]
    return scope


def test_what_needs_which_key() -> None:
    told = {scope.strip("`"): {one for one in named(what) if one[0] == "/"} for scope, what in rows("Safety", "scope")}
    keys: Sequence[Key] = [Key("infer", frozenset({"infer"})), Key("manage", frozenset({"manage"}))]
    with running(doors=Doors(keys)) as locked, httpx.Client() as client:
        found = dict[str, set[str]]()
        for route in (*ollama.routes(locked.house), *openai.routes(locked.house), *tokens.routes(locked.house)):
            for method in route.methods or ():
                path = re.sub(r"{.*}", "x", route.path)
                shown = path.removesuffix("/x")
                found.setdefault(_scope_of(method, locked.url + path, client), set()).add(shown)
    assert found.pop("infer")
    assert found == {scope: paths for scope, paths in told.items() if scope != "infer"}


# --- options


def test_every_option_has_its_variable_and_what_it_is_by_default() -> None:
    options = [one for one in serve.command.params if isinstance(one, click.Option) and one.name != "help"]
    told = {named(option)[0]: (named(variable)[0], default) for option, variable, default in rows("Safety", "option")}
    assert {name: variable for name, (variable, _) in told.items()} == {one.opts[0]: one.envvar for one in options}
    for one in options:
        default = told[one.opts[0]][1]
        if one.is_flag:
            assert default == "false"
        elif one.show_default:
            assert default == str(one.default)
