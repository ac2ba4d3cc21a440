"""The README is true: its Python runs, its transcript is what nano says, its commands and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import headrace
from headrace import Text, ToolCall

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(snippet, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "calculate {'expression': '37 * 12'}" in printed
    assert "444" in printed


def test_the_transcript_is_what_nano_says() -> None:
    """The date and time of the clock aside, which the transcript does not ask for."""
    transcript = README[README.index("$ make run PROMPT") : README.index(">>> /bye")]
    asked = [re.search('"(.*)"', transcript)[1], *re.findall(r"^>>> (.*)$", transcript, re.MULTILINE)]  # type: ignore[index]
    with headrace.load("nano") as model:
        for question in asked:
            events = list(model.chat([{"role": "user", "content": question}], tools="builtin", run_tools=True))
            answer = "".join(event.text for event in events if isinstance(event, Text))
            assert answer in transcript.replace("\n", " ") or answer in transcript
            for event in events:
                assert not isinstance(event, ToolCall) or event.name in transcript


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_changelog_has_this_version() -> None:
    assert f"\n## {headrace.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
