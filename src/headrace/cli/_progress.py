"""How far something long has come, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click


def progress(doing: str) -> Callable[[int, int], None]:
    """Takes the bytes done, and all: one line, drawn anew, on a terminal; elsewhere a line for each quarter."""
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        terminal = sys.stderr.isatty()
        percent = 100 * done // total if total else 100
        step = percent if terminal else percent // 25 * 25
        if step == shown:
            return
        shown = step
        line = f"{doing}: {step:3}% of {total / 2**20:,.0f} MiB"
        click.echo(f"\r{line}" if terminal else line, nl=not terminal or percent == 100, err=True)

    return show
