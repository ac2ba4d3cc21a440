"""Saved conversations: there and back, and files that are none."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from headrace.cli import _saved
from headrace.cli._saved import Conversation
from headrace.errors import FileInvalid, RequestInvalid

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
TALK = Conversation(
    model="nano",
    tools="builtin",
    system="Be brief. ✓",
    parameters={"temperature": 0.5, "stop": ["END"]},
    messages=[
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "name": "f", "content": "2"},
    ],
)


def test_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    for _ in range(2):  # the second time over itself
        _saved.write(file, TALK)
        assert _saved.is_saved(file)
        assert _saved.read(file) == TALK
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(RequestInvalid, match="exists and is no saved conversation"):
        _saved.write(file, TALK)
    assert file.read_text() == "mine"
    with pytest.raises(RequestInvalid, match="cannot be written"):
        _saved.write(tmp_path / "nonesuch" / "chat.json", TALK)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"headrace": 2}, "its version is 2, not 1"),
        ({"headrace": True}, "its version is True"),
        ({"more": 1}, "'more' is no field"),
        ({"model": 3}, "model is 3 but should be a model's name or path"),
        ({"tools": "mine"}, 'tools is "mine" but should be'),
        ({"system": []}, "system is"),
        ({"parameters": []}, "parameters is"),
        ({"parameters": {"temperature": "hot"}}, "temperature is 'hot'"),
        ({"parameters": {"heat": 1}}, "unknown parameter 'heat'"),
        ({"messages": {}}, "messages is"),
        ({"messages": ["Hi"]}, "message 1 is a str"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'the role of message 1 is "system"'),
        ({"messages": [{"role": "user"}]}, "the content of message 1 is null"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "a tool call of message 1"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": 1}]}, "tool_calls is not a list"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    _saved.write(file, TALK)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(FileInvalid, match=r"chat\.json: ") as raised:
        _saved.read(file)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"headrace": NaN}', "\xff\xfe", '{"headrace": 1}'])
def test_no_such_file_at_all(text: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileInvalid):
        _saved.read(file)
