"""What a pull, a push or a creation tells, on stderr: bars on a terminal, elsewhere a line for each new status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from headrace.cli._display import safe

if TYPE_CHECKING:
    from rich.progress import TaskID

    from headrace.library.progress import Progress as Step
    from headrace.library.progress import Report


@contextmanager
def steps() -> Iterator[Report]:
    """Takes the steps as they come."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}
        told = [""]  # whoever waits says so again and again

        def show(step: Step) -> None:
            name = safe(step.status)
            if step.total is None:
                if name != told[0]:
                    bars.console.print(name, markup=False, highlight=False)
                told[0] = name
                return
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=step.total)
            bars.update(tasks[name], completed=step.completed)

        yield show
        for task in bars.tasks:  # whoever tells the steps need not tell each one's end
            bars.update(task.id, completed=task.total)


class _Lines:
    """Each status once, in a row."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, step: Step) -> None:
        if step.status != self._last:
            self._last = step.status
            click.echo(safe(step.status), err=True)
