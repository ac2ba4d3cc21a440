"""An engine that is looked at while it works: what each step held, and when its parts began and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.engine.batch import Batch, Part, Stepped
from headrace.engine.engine import Core
from headrace.engine.scheduler import Scheduler
from headrace.model import Model


@dataclass(slots=True)
class Step:
    """Moments by `time.perf_counter`, in the order in which they come."""

    sequences: int
    tokens: int
    rows: int  # of logits: the tokens that it gave, drafts among them
    scheduling: float
    scheduled: float
    started: float  # the core's step
    ended: float
    committed: float = 0.0


@dataclass(slots=True)
class Watch:
    """The steps of a model's engine from now on."""

    model: Model
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        engine = self.model._engine

        def stand_between(scheduler: Scheduler, core: Core) -> None:
            watched = _Core(core)
            engine._core, engine._scheduler = watched, _Scheduler(scheduler, watched, self.steps)  # type: ignore[assignment]

        engine.call(stand_between)

    def since(self, first: int) -> list[Step]:
        """The steps from number `first` on, the last of them committed."""
        self.model._engine.call(lambda *_: None)  # comes between two steps
        return self.steps[first:]


class _Core:
    """Passes everything on, and remembers when the last step began and ended."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.started = self.ended = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def step(self, batch: Batch) -> tuple[Any, ...]:
        self.started = time.perf_counter()
        stepped = self._core.step(batch)
        self.ended = time.perf_counter()
        return stepped


class _Scheduler:
    """Passes everything on, and writes down each step that gave tokens."""

    def __init__(self, scheduler: Scheduler, core: _Core, steps: list[Step]) -> None:
        self._scheduler, self._core, self._steps = scheduler, core, steps
        self._scheduling = self._scheduled = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def schedule(self) -> list[Part]:
        self._scheduling = time.perf_counter()
        parts = self._scheduler.schedule()
        self._scheduled = time.perf_counter()
        return parts

    def commit(self, parts: Sequence[Part], stepped: Stepped, seconds: float) -> None:
        tokens, rows = sum(part.count for part in parts), len(stepped.ids)
        moments = self._scheduling, self._scheduled, self._core.started, self._core.ended
        step = Step(len(parts), tokens, rows, *moments)
        self._steps.append(step)  # before anybody hears of its tokens
        self._scheduler.commit(parts, stepped, seconds)
        step.committed = time.perf_counter()
