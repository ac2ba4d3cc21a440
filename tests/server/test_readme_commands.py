"""What the README says to a server with curl is answered."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import httpx
import pytest

from tests.server.live import Live

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^curl (.*)$", README, re.MULTILINE)


def test_both_apis_are_asked() -> None:
    assert [re.sub(r"/[^/]*$", "", re.sub("^.*:11434", "", shlex.split(one)[0])) for one in COMMANDS] == [
        "/api",
        "/v1/chat",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_they_are_answered(command: str, live: Live) -> None:
    url, flag, body = shlex.split(command)
    assert flag == "-d"
    answer = httpx.post(url.replace("http://127.0.0.1:11434", live.url), content=body, timeout=60)
    assert answer.status_code == 200
    said = answer.json()
    text = said["response"] if "response" in said else said["choices"][0]["message"]["content"]
    assert "convert units" in text
