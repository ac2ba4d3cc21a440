"""How an answer looks: plain text into a pipe, Markdown on a terminal that can show it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

FENCE = "```"


class Display(Protocol):
    """Takes an answer as it grows; `end` is called once, whether or not the answer came to its end."""

    def write(self, text: str) -> None: ...

    def end(self) -> None: ...


def display_for_stdout(wordwrap: bool) -> Display:
    """Markdown where there is a terminal and lines may be wrapped; else the text as the model writes it."""
    if wordwrap and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return MarkdownDisplay()
    return PlainDisplay()


class PlainDisplay:
    """The text and nothing else."""

    __slots__ = ()

    def write(self, text: str) -> None:
        click.echo(text, nl=False)

    def end(self) -> None:
        click.echo()


class MarkdownDisplay:
    """Renders block by block: the one that grows is drawn anew, and printed for good when the next one begins."""

    __slots__ = ("_block", "_console", "_live")

    def __init__(self) -> None:
        from rich.console import Console  # a tenth of a second: only a terminal waits for it

        self._console: Console = Console(highlight=False)
        self._block = ""
        self._live: Live | None = None

    def write(self, text: str) -> None:
        self._block += text
        while (end := block_end(self._block)) is not None:
            block, self._block = self._block[:end], self._block[end:]
            self._print(block)
        self._draw()

    def end(self) -> None:
        self._print(self._block)
        self._block = ""

    def _draw(self) -> None:
        from rich.live import Live
        from rich.markdown import Markdown

        if not self._block.strip():
            return
        if self._live is None:
            self._live = Live(console=self._console, transient=True, refresh_per_second=12)
            self._live.start()
        self._live.update(Markdown(self._block))

    def _print(self, block: str) -> None:
        from rich.markdown import Markdown

        if self._live is not None:
            self._live.stop()
            self._live = None
        if block.strip():
            self._console.print(Markdown(block))


def block_end(text: str) -> int | None:
    """Where the first block of Markdown ends: after an empty line that no code fence holds. None: it still grows."""
    place = text.find("\n\n")
    while place >= 0:
        if sum(line.lstrip().startswith(FENCE) for line in text[:place].splitlines()) % 2 == 0:
            return place + 2
        place = text.find("\n\n", place + 2)
    return None
