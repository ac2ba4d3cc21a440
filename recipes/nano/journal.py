"""What a run says of itself while it trains, and what its figures are drawn from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


class Journal:
    """Writes lines to the screen and to log.jsonl, and curves to TensorBoard where that is installed."""

    def __init__(self, folder: Path, tokens: int, last_step: int) -> None:
        self.last_step = last_step
        self.path = folder / "log.jsonl"
        self._started, self._tokens, self._steps = time.monotonic(), tokens, 0
        self._losses: list[float | Tensor] = []
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(str(folder / "tensorboard"))  # type: ignore[no-untyped-call]

    def begins_on(self, machine: str) -> None:
        """What does the work from here on."""
        self._write({"machine": machine})

    def note(self, step: int, tokens: int, loss: float | Tensor, rate: float) -> None:
        """Every 25 steps: mean loss, speed, and how long the rest will take."""
        self._losses.append(loss)
        self._steps += 1
        if step % 25 and step != self.last_step:
            return
        seconds = time.monotonic() - self._started
        left = (self.last_step - step) * seconds / self._steps
        line = {
            "step": step,
            "tokens": tokens,
            "loss": round(sum(map(float, self._losses)) / len(self._losses), 4),
            "rate": round(rate, 6),
            "tokens_per_second": round((tokens - self._tokens) / seconds),
            "left": f"{int(left // 3600)}:{int(left // 60 % 60):02}",
        }
        self._losses = []
        self._write(line)
        self._draw(step, {"loss": line["loss"], "rate": line["rate"], "tokens per second": line["tokens_per_second"]})

    def gates(self, step: int, shares: Mapping[str, float]) -> None:
        self._write({"step": step, "gates": dict(shares)})
        self._draw(step, {f"gates/{name}": share for name, share in shares.items()})

    def _write(self, line: Mapping[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _draw(self, step: int, figures: Mapping[str, Any]) -> None:
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)  # type: ignore[no-untyped-call]
