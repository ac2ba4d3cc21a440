"""docs/api.md says of what both APIs share, and of what is beside them, what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace.server import endpoint, guard, tokens, wire
from tests.server.live import Live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_route_beside_the_dialects_has_its_row(live: Live) -> None:
    def told(section: str) -> set[str]:
        lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        return {route for line in lines for route in re.findall(r"`((?:GET|HEAD|POST|DELETE) [^`]+)`", line)}

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
