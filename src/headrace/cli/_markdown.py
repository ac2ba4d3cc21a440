"""Markdown -> rows of a terminal: where blocks end, and how one of them looks. No character of an answer is dropped."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.text import Text

# What would take characters out of sight: HTML tags, references, pictures, angle brackets.
HIDING = ("reference", "image", "autolink")
INDENT = 4  # columns that a level of nesting takes at most
ESCAPE = re.compile(r"\x1b\[[\d;]*m")
PADDING = re.compile(rf" +((?:{ESCAPE.pattern})*)$")


class Renderer:
    """Splits and renders. Colours as the terminal of this process has them."""

    __slots__ = ("_console", "_parser")

    def __init__(self) -> None:
        self._console = Console(file=io.StringIO(), force_terminal=True, highlight=False)
        self._parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(HIDING)

    def split(self, text: str) -> tuple[list[str], str]:
        """The blocks that no further text can change, and the rest: the last block of whole lines, and what follows."""
        whole = text[: text.rfind("\n") + 1]
        starts = [token.map[0] for token in self._parser.parse(whole) if not token.level and token.map]
        if len(starts) < 2:
            return [], text
        lines = text.split("\n")
        blocks = ["\n".join(lines[start:end]) for start, end in itertools.pairwise(starts)]
        return blocks, "\n".join(lines[starts[-1] :])

    def rows(self, text: str, width: int) -> list[str]:
        """The text, one block or more, as rows of at most `width` columns, with the terminal's escapes in them."""
        plain = Text(text.strip("\n"))
        try:
            shown = self._markdown(text)
            if max((token.level for token in shown.parsed), default=0) * INDENT > width:
                return self._print(plain, width)  # nested too deeply to leave room for words
            rows = self._print(shown, width)
        except Exception:  # whatever a renderer trips over, the answer is still to be read
            return self._print(plain, width)
        cut = any("…" in row for row in rows) and "…" not in text  # a table too wide for its words
        return self._print(plain, width) if cut else rows

    def _markdown(self, text: str) -> Markdown:
        shown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        shown.parsed = self._parser.parse(text)
        for token in shown.parsed:
            token.tag = "h2" if token.tag == "h1" else token.tag  # in the middle of the line is no place for it
            _keep_breaks(token.children or [])
            _keep_operators(token.children or [])
        return shown

    def _print(self, shown: RenderableType, width: int) -> list[str]:
        self._console.width = width
        with self._console.capture() as captured:
            self._console.print(shown)
        rows = [PADDING.sub(r"\1", row) for row in captured.get().split("\n")]
        filled = [place for place, row in enumerate(rows) if ESCAPE.sub("", row).strip()]
        return rows[filled[0] : filled[-1] + 1] if filled else []


def _keep_breaks(tokens: Sequence[Token]) -> None:
    """A model that ends a line means it."""
    for token in tokens:
        if token.type == "softbreak":
            token.type = "hardbreak"


def _keep_operators(tokens: Sequence[Token]) -> None:
    """`2*3*4` is a product: stars that stand between letters or digits on both their outer sides are no emphasis."""
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token.type in ("em_open", "strong_open"):
            opened.append(place)
        elif token.type in ("em_close", "strong_close"):
            start = opened.pop()
            before, after = tokens[start - 1].content if start else "", _content(tokens, place + 1)
            if before[-1:].isalnum() and after[:1].isalnum():
                for star in (tokens[start], token):
                    star.type, star.tag, star.nesting, star.content = "text", "", 0, star.markup


def _content(tokens: Sequence[Token], place: int) -> str:
    return tokens[place].content if place < len(tokens) else ""
