"""docs/api.md says of OpenAI's API what is so: every field and route has its row, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from headrace.errors import OUTCOMES
from headrace.server import openai
from headrace.server.openai.chat import ChatCompletion
from headrace.server.openai.completions import Completion
from headrace.server.openai.embeddings import Embedding
from headrace.server.openai.errors import KINDS
from headrace.server.openai.sampling import Sampled
from headrace.server.wire import Fields
from tests.server.live import Live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = re.split(r"^## ", PAGE.partition("## OpenAI's API\n")[2], flags=re.MULTILINE)[0]
PARTS = dict(re.findall(r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", SECTION, re.MULTILINE | re.DOTALL))
BOTH = PARTS["Fields of both completions"]


def rows(part: str) -> dict[str, str]:
    """What the second cell says of each name in the first."""
    lines = [line.split("|")[1:3] for line in part.splitlines() if line.startswith("| `")]
    return {name: status.strip() for names, status in lines for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (ChatCompletion, BOTH + PARTS["`/v1/chat/completions`"]),
        (Completion, BOTH + PARTS["`/v1/completions`"]),
        (Embedding, PARTS["`/v1/embeddings`"]),
        (Sampled, BOTH),
    ],
)
def test_every_field_has_its_row(kind: type[Fields], part: str) -> None:
    told = rows(part)
    fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert told.keys() == fields | kind.ignored | kind.refused.keys()
    assert {name for name, status in told.items() if status == "ignored"} == kind.ignored
    refused = {name for name, status in told.items() if status == "refused"}
    assert refused - fields == kind.refused.keys()
    assert refused & fields <= {"best_of", "suffix"}


def test_every_route_has_its_row(live: Live) -> None:
    routes = {
        f"{method} {re.sub(r':path', '', route.path)}"
        for route in openai.routes(live.house)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(re.findall(r"^\| `((?:GET|POST) [^`]+)`", SECTION, re.MULTILINE)) == routes


def test_errors_are_those_that_are_raised() -> None:
    lines = [line.split("|")[1:4] for line in PARTS["Errors"].splitlines() if re.match(r"\| \d", line)]
    told = {
        (int(status), *re.findall(r"`(\w+)`", kind), code.strip(" `"))
        for all_, kind, code in lines
        for status in all_.split(",")
    }
    for error, (kind, code) in KINDS.items():
        assert (OUTCOMES[error].http_status, kind, code or "null") in told
