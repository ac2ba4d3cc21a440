"""docs/api.md says of Ollama's API what is so: every field, option and route has its row, and named tests exist."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from headrace.engine import options as options_
from headrace.engine.parameters import RANGES
from headrace.errors import OUTCOMES
from headrace.server import ollama
from headrace.server.ollama import requests as requests
from headrace.server.ollama.embeddings import MOST_TEXTS
from headrace.server.wire import Fields, Limits
from tests.pages import named
from tests.server.live import Live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = re.split(r"^## ", PAGE.partition("## Ollama's API\n")[2], flags=re.MULTILINE)[0]
PARTS = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", SECTION, re.MULTILINE | re.DOTALL))
BOTH = PARTS["Fields of chat and generate"]
OTHERS = {
    requests.Embed: "embed",
    requests.Embeddings: "embeddings",
    requests.Show: "show",
    requests.Pull: "pull",
    requests.Push: "push",
    requests.Create: "create",
    requests.Copy: "copy",
    requests.Delete: "delete",
}


def cells(part: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| `")]


def check(kind: type[Fields], told: dict[str, str]) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert told.keys() == fields | kind.ignored | kind.refused.keys()
    assert {name for name, status in told.items() if status == "ignored"} == kind.ignored
    assert {name for name, status in told.items() if status == "refused"} - fields == kind.refused.keys()


@pytest.mark.parametrize(("kind", "part"), [(requests.Chat, "`/api/chat`"), (requests.Generate, "`/api/generate`")])
def test_every_field_has_its_row(kind: type[Fields], part: str) -> None:
    check(kind, {name: row[1] for row in cells(BOTH + PARTS[part]) for name in named(row[0])})


@pytest.mark.parametrize(("kind", "route"), OTHERS.items())
def test_every_field_of_the_other_routes_has_its_row(kind: type[Fields], route: str) -> None:
    told = {}
    for names, of, status, *_ in cells(PARTS["The other routes"]):
        if (of == "all but copy" and route != "copy") or route in of.split(", "):
            told |= dict.fromkeys(named(names), status)
    check(kind, told)


def test_every_field_of_a_message_is_named() -> None:
    (row,) = [row for row in cells(PARTS["`/api/chat`"]) if row[0] == "`messages`"]
    assert {field.encode_name for field in msgspec.structs.fields(requests.Message)} <= set(named(row[2]))


def test_every_option_has_its_row() -> None:
    told = {name: row for row in cells(PARTS["Options"]) for name in named(row[0])}
    by = {status: {name for name, row in told.items() if row[1] == status} for status in ("yes", "ignored", "refused")}
    assert by == {
        "yes": {*options_.HONOURED, "num_ctx"},
        "ignored": set(options_.IGNORED),
        "refused": options_.NEUTRAL.keys(),
    }
    for name in ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty"):
        low, high = RANGES[name]
        assert told[name][2].startswith(f"{low:g} to {high:g}")
    values = ["true" if value is True else str(value) for value in map(options_.NEUTRAL.get, named(told["tfs_z"][0]))]
    assert f"unless it is {', '.join(values)}:" in told["tfs_z"][2]


def test_every_route_has_its_row(live: Live) -> None:
    routes = {f"{method} {route.path}" for route in ollama.routes(live.house) for method in route.methods or ()}
    table = SECTION.partition("### ")[0]
    assert {name for row in cells(table) for name in named(row[0])} == routes


def test_figures() -> None:
    assert f"up to {MOST_TEXTS}" in SECTION
    assert f"at most {Limits().template_bytes >> 10} KiB" in SECTION


def test_statuses_are_those_that_are_raised() -> None:
    first = " ".join(re.findall(r"^\| (\d[^|]*)\|", PARTS["Errors"], re.MULTILINE))
    assert set(map(int, re.findall(r"\d+", first))) == {outcome.http_status for outcome in OUTCOMES.values()}
