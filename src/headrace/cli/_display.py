"""How an answer looks: plain text into a pipe, Markdown on a terminal that can show it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

import click

from headrace.events import Event, Text, Thinking, ToolCall, ToolResult

if TYPE_CHECKING:
    from headrace.cli._markdown import Renderer

FRAME_S: Final = 0.04  # between two paintings of a block that grows
# Control characters out of an answer or a tool would command the terminal: they are shown as pictures of themselves.
PICTURES: Final = {code: 0x2400 + code for code in range(32)} | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
TERMINAL_SAFE: Final = PICTURES | {0x7F: 0x2421, ord("\n"): "\n", ord("\t"): "\t", ord("\r"): None}


class Display(Protocol):
    """Takes the text of an answer as it grows. `rest` puts the cursor on a line of its own: at the end, whether or not
    the answer came to it, and before something else is printed."""

    def write(self, text: str) -> None: ...

    def rest(self) -> None: ...


def display_for_stdout(wordwrap: bool) -> Display:
    """Markdown where there is a terminal and lines may be wrapped; else the text as the model writes it."""
    terminal = sys.stdout.isatty()
    if wordwrap and terminal and os.environ.get("TERM", "dumb") != "dumb":
        from headrace.cli._markdown import Renderer  # a tenth of a second: only a terminal waits for it

        return MarkdownDisplay(sys.stdout, Renderer())
    return PlainDisplay(terminal)


@dataclass(slots=True)
class Screen:
    """An answer on stdout, and everything about it on stderr."""

    display: Display
    show_thinking: bool
    _thinks: bool = False

    def show(self, event: Event) -> None:
        match event:
            case Text(text):
                self._end_thought()
                self.display.write(text)
            case Thinking(text) if self.show_thinking:
                if not self._thinks:
                    self.display.rest()
                self._thinks = True
                click.secho(safe(text), nl=False, dim=True, err=True)
            case ToolCall():
                self._aside(f"→ {call_line(event)}")
            case ToolResult(content=content):
                self._aside(f"← {content}")

    def end(self) -> None:
        self._end_thought()
        self.display.rest()

    def _aside(self, line: str) -> None:
        self.end()
        click.secho(safe(line), dim=True, err=True)

    def _end_thought(self) -> None:
        if self._thinks:
            click.echo("\n", err=True)
        self._thinks = False


@dataclass(slots=True)
class PlainDisplay:
    """The text and nothing else."""

    terminal: bool
    _inside_line: bool = False

    def write(self, text: str) -> None:
        if text:
            click.echo(safe(text) if self.terminal else text, nl=False, color=True)  # click must strip nothing
            self._inside_line = not text.endswith("\n")

    def rest(self) -> None:
        if self._inside_line:
            click.echo()
        self._inside_line = False


class MarkdownDisplay:
    """The block that grows is painted over itself, row by row where rows differ; the cursor rests at its end.

    A block higher than the terminal is cut at the top while it grows, and printed whole when it is complete, so that
    nothing is missing when one scrolls back. A block that was printed is never touched again.
    """

    __slots__ = ("_begun", "_output", "_painted", "_painted_at", "_renderer", "_text")

    def __init__(self, output: TextIO, renderer: Renderer) -> None:
        self._output = output
        self._renderer = renderer
        self._text = ""  # of the block that grows
        self._painted: list[str] = []  # its rows on the screen
        self._painted_at = 0.0
        self._begun = False  # a block stands above: the next one keeps a distance

    def write(self, text: str) -> None:
        self._text += safe(text)
        if "\n" in text:
            blocks, self._text = self._renderer.split(self._text)
            for block in blocks:
                self._finish(block)
        if time.monotonic() - self._painted_at >= FRAME_S:
            self._paint(self._rows(self._text)[1 - shutil.get_terminal_size().lines :])
            self._painted_at = time.monotonic()

    def rest(self) -> None:
        self._finish(self._text)
        self._text, self._begun = "", False

    def _finish(self, block: str) -> None:
        if rows := self._rows(block):
            self._paint(rows)
            self._output.write("\n")
            self._output.flush()
            self._painted, self._begun = [], True

    def _rows(self, block: str) -> list[str]:
        rows = self._renderer.rows(block, max(shutil.get_terminal_size().columns - 1, 1))
        return ["", *rows] if rows and self._begun else rows

    def _paint(self, rows: list[str]) -> None:
        """Makes the rows on the screen these rows, in one write."""
        old, last = self._painted, len(self._painted) - 1
        if old and len(rows) > last and rows[:last] == old[:last] and rows[last].startswith(old[last]):
            self._output.write("\n".join([rows[last][len(old[last]) :], *rows[last + 1 :]]))  # it only grew, as usual
        else:
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, rows, strict=False)))
            first = max(min(same, last, len(rows) - 1), 0)
            up = f"\x1b[{last - first}A" if last > first else ""
            erase = "\x1b[J" if len(old) > len(rows) else ""
            self._output.write(f"{up}\r{erase}" + "\n".join(f"\x1b[K{row}" for row in rows[first:]))
        self._output.flush()
        self._painted = rows


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """What is typed while an answer grows waits for the next prompt, and is not printed amid the answer."""
    if not sys.stdin or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def safe(text: str) -> str:
    """Without anything that a terminal takes for a command."""
    return text.translate(TERMINAL_SAFE)


def call_line(call: ToolCall) -> str:
    """A call as a line that no terminal takes for a command."""
    return safe(call_text(call.name, call.arguments))


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as a line, as Python would write it."""
    given = (f"{argument}={json.dumps(value, ensure_ascii=False)}" for argument, value in arguments.items())
    return f"{name}({', '.join(given)})"
