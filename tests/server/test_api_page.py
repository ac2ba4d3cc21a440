"""docs/api.md says of Ollama's API, and of what both APIs share, what is so."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from headrace.server import endpoint, guard, ollama, ollama_options, ollama_requests, tokens, wire
from tests.server.live import Live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
OLLAMA = SECTIONS["Ollama's API"]
PARTS = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", OLLAMA, re.MULTILINE | re.DOTALL))


def rows(part: str) -> dict[str, str]:
    """What the second cell says of each name in the first."""
    lines = [line.split("|")[1:3] for line in part.splitlines() if line.startswith("| `")]
    return {name: status.strip() for names, status in lines for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (ollama_requests.Chat, ("Fields of chat and generate", "Fields of chat alone")),
        (ollama_requests.Generate, ("Fields of chat and generate", "Fields of generate alone")),
    ],
)
def test_every_field_of_an_answer_has_its_row(kind: type[wire.Fields], parts: tuple[str, ...]) -> None:
    told = rows("".join(map(PARTS.__getitem__, parts)))
    assert told.keys() == {f.encode_name for f in msgspec.structs.fields(kind)} | kind.ignored | kind.refused.keys()
    assert {name for name, status in told.items() if status == "ignored"} == kind.ignored
    assert {name for name, status in told.items() if status == "refused"} >= kind.refused.keys()


def test_every_field_of_the_other_routes_is_named() -> None:
    kinds = (ollama_requests.Embed, ollama_requests.Embeddings, ollama_requests.Show, ollama_requests.Pull)
    fields = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert fields <= set(re.findall(r"`(\w+)`", OLLAMA))


def test_every_option_has_its_row() -> None:
    told = rows(PARTS["Options"])
    assert {name for name, status in told.items() if status == "yes"} == {*ollama_options.HONOURED, "num_ctx"}
    assert {name for name, status in told.items() if status == "ignored"} == ollama_options.IGNORED
    assert {name for name, status in told.items() if status == "refused"} == ollama_options.NEUTRAL.keys()


def test_every_route_has_its_row(live: Live) -> None:
    def told(section: str) -> set[str]:
        lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        return {route for line in lines for route in re.findall(r"`((?:GET|HEAD|POST|DELETE) [^`]+)`", line)}

    served = {f"{method} {one.path}" for one in ollama.routes(live.house) for method in one.methods or ()}
    assert told(OLLAMA) == served
    beside = {f"{method} {one.path}" for one in tokens.routes(live.house) for method in one.methods or ()}
    assert told(SECTIONS["Beside the dialects"]) == {one for one in beside if "HEAD" not in one} | {"GET /openapi.json"}


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", PAGE))))
def test_named_tests_exist(named: str) -> None:
    file, _, test = named.partition("::")
    text = (ROOT / "tests" / "server" / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


LIMITS = wire.Limits()


@pytest.mark.parametrize(
    "sentence",
    [
        f"A head has {LIMITS.header_bytes >> 10} KiB and {LIMITS.header_s:g} seconds",
        f"a body {LIMITS.body_bytes >> 20} MiB (`--max-body`) and {LIMITS.body_s:g} seconds; {endpoint.BODIES} bodies",
        f"nested {LIMITS.depth} levels deep and have {LIMITS.items:,} commas",
        f"may have {LIMITS.form_bytes >> 10} KiB, a template {LIMITS.template_bytes >> 10} KiB",
        f"There may be {LIMITS.connections:,} connections",
        f"nothing of an answer for {LIMITS.stall_s:g} seconds",
        ", ".join(f"`{scheme}:`" for scheme in ("app", "tauri", "vscode-webview", "vscode-file")),
    ],
)
def test_limits_are_the_codes(sentence: str) -> None:
    assert sentence in WORDS


def test_what_needs_which_key() -> None:
    managed = "`manage` is for `/api/pull`, `push`, `create`, `copy`, `delete` and `blobs`"
    assert managed in WORDS
    assert [f"/api/{name}" for name in ("pull", "push", "create", "copy", "delete", "blobs")] == list(guard.MANAGING)
    assert {"/", "/health", "/api/version"} == guard.OPEN
    assert "but for `/`, `/health` and `/api/version`, which need no key" in WORDS
    assert {"app", "tauri", "vscode-webview", "vscode-file"} == guard.APP_SCHEMES
