"""What a pull, a push or a creation tells, on stderr: bars on a terminal, elsewhere a line for each new status."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from headrace.cli._display import safe

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from headrace.library.progress import Progress as Step
    from headrace.library.progress import Report


WAITING: Final = "waiting"  # how a status begins that is one blob's, while others come
BAR_WIDTH: Final = 20  # columns: with what stands beside it, less than 80, so that nothing wraps
_DIGEST = re.compile(r"sha256:([0-9a-f]{12})[0-9a-f]{52}")


@contextmanager
def steps() -> Iterator[Report]:
    """Takes the steps as they come."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    name, bar = TextColumn("{task.description}", markup=False), BarColumn(BAR_WIDTH)
    columns = (name, bar, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = _Bars(progress)
        yield bars
        bars.settle()


class _Bars:
    """Bars of what goes on, below the lines of what is over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._told = ""  # whoever waits says so again and again

    def __call__(self, step: Step) -> None:
        name = safe(_DIGEST.sub(r"\1", step.status))
        if step.total is None:
            self._tell(name)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=step.total)
        self._progress.update(self._tasks[name], completed=step.completed)

    def _tell(self, name: str) -> None:
        if name == self._told:
            return
        self._told = name
        if not name.startswith(WAITING):
            self.settle()
        self._progress.console.print(name, markup=False, highlight=False)

    def settle(self) -> None:
        """What was going on is over: whoever tells the steps need not tell each one's end."""
        if not self._tasks:
            return
        for task in self._progress.tasks:
            self._progress.update(task.id, completed=task.total)
        self._progress.console.print(self._progress.make_tasks_table(self._progress.tasks))
        for name in list(self._tasks):
            self._progress.remove_task(self._tasks.pop(name))


class _Lines:
    """Each status once in a row; of what has a size once at all, since several blobs come at a time."""

    def __init__(self) -> None:
        self._last = ""
        self._begun = set[str]()

    def __call__(self, step: Step) -> None:
        if step.status == self._last or step.status in self._begun:
            return
        if step.total is not None:
            self._begun.add(step.status)
        self._last = step.status
        click.echo(safe(step.status), err=True)
