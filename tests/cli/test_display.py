"""Markdown on a screen, as it grows; plain text; what would command the terminal."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cli import _display
from headrace.cli._display import MarkdownDisplay, PlainDisplay, Screen
from headrace.cli._markdown import Renderer
from headrace.events import Text, Thinking, ToolCall, ToolResult

COLUMNS, LINES = 40, 12
TEXT = """# Title

Some *words* here, and **many more** of them, so that the line is wrapped.
Next line.

```python
def f(x):

    return x
```

1. one
2. two

   still two
- [site](https://example.org/page)

| a | b |
|---|---|
| 1 | 2 |

> quoted

The end."""


@pytest.fixture(autouse=True)
def small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((COLUMNS, LINES)))
    monkeypatch.setattr(_display, "FRAME_S", 0.0)  # every piece is painted


def screen_after(pieces: list[str]) -> list[str]:
    """What a terminal shows, with all that has scrolled out of it."""
    output = io.StringIO()
    display = MarkdownDisplay(output, Renderer())
    for piece in pieces:
        display.write(piece)
    display.rest()
    return screen_of(output.getvalue())


def screen_of(written: str) -> list[str]:
    screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000, ratio=1)
    pyte.Stream(screen).feed(written.replace("\n", "\r\n"))
    above = ["".join(row[x].data for x in range(COLUMNS)).rstrip() for row in screen.history.top]
    return "\n".join([*above, *(row.rstrip() for row in screen.display)]).rstrip().split("\n")


def cut(text: str, places: list[int]) -> list[str]:
    places = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


def test_a_page() -> None:
    assert screen_after([TEXT]) == [
        "Title",
        "",
        "Some words here, and many more of them,",
        "so that the line is wrapped.",
        "Next line.",
        "",
        " def f(x):",
        "",
        "     return x",
        "",
        " 1 one",
        " 2 two",
        "   still two",
        "",
        " • site (https://example.org/page)",
        "",
        " a  b",
        " ────",
        " 1  2",
        "",
        "▌ quoted",
        "",
        "The end.",
    ]


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(TEXT)), max_size=30))
def test_what_is_shown_does_not_depend_on_the_pieces(places: list[int]) -> None:
    assert screen_after(cut(TEXT, places)) == screen_after([TEXT])


def test_letter_by_letter() -> None:
    assert screen_after(list(TEXT)) == screen_after([TEXT])


LONG = [
    "```\n" + "\n".join(f"line {i}" for i in range(40)) + "\n```\nAfter.",
    "\n".join(f"{i}. point" for i in range(1, 41)),
    "A **paragraph " + "that goes on " * 60 + "until** here.",
]


@pytest.mark.parametrize("text", LONG)
def test_a_block_higher_than_the_screen_is_whole_in_the_end(text: str) -> None:
    assert screen_after(cut(text, list(range(0, len(text), 7)))) == screen_after([text])


def test_while_a_block_grows_its_end_is_in_sight() -> None:
    output = io.StringIO()
    display = MarkdownDisplay(output, Renderer())
    for i in range(40):
        display.write(f"- point {i}\n")
        assert screen_of(output.getvalue())[-1] == f" • point {i}"


@pytest.mark.parametrize(
    "text",
    [
        "5*4*3 = 60 and 2**3**2 = 512",
        "<b>bold</b> & <https://example.org>",
        "![a picture](https://example.org/x.png)",
        "[ref]: https://example.org",
        "a\nb",
        "| name |\n|---|\n| " + "x" * 90 + " |",
        "> " * 60 + "deep",
    ],
)
def test_nothing_is_lost(text: str) -> None:
    shown = "".join(screen_after([text]))
    for word in re.findall(r"[\w:/.*]*\w[\w:/.*]*", text):
        assert word in shown.replace("▌", "").replace(" ", "")


def test_control_characters_are_shown_not_obeyed() -> None:
    output = io.StringIO()
    display = MarkdownDisplay(output, Renderer())
    display.write("a\x1b]0;title\x07b\x9bc\r\n")
    display.rest()
    assert "a␛]0;title␇b\ufffdc" in output.getvalue()


def test_plain_text_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay(terminal=False)
    for piece in ("# Title\n", "\x1b[1m", "*words*"):
        display.write(piece)
    display.rest()
    display.rest()
    assert capsys.readouterr().out == "# Title\n\x1b[1m*words*\n"


def shown(events: list[Any], capsys: pytest.CaptureFixture[str], *, thinking: bool) -> tuple[str, str]:
    screen = Screen(PlainDisplay(terminal=False), show_thinking=thinking)
    for event in events:
        screen.show(event)
    screen.end()
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_calls_and_thoughts_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        Thinking("hm"),
        Thinking("m"),
        Text("I ask."),
        ToolCall("1", "f", {"a": "x"}),
        ToolResult("1", "f", "2"),
        Text("Two."),
    ]
    assert shown(events, capsys, thinking=True) == ("I ask.\nTwo.\n", 'hmm\n\n→ f(a="x")\n← 2\n')
    assert shown(events, capsys, thinking=False) == ("I ask.\nTwo.\n", '→ f(a="x")\n← 2\n')
