"""How fast a model of the family should run here: what a token costs, against what the machine gives.

The shares of the machine's limits are those that docs/performance.md has measured, which differ from machine to
machine: what comes of them is good to a quarter or so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from headrace.bench import Cost
from headrace.plan import Plan
from headrace.shapes import Member, config_of, plain_type, shape_of
from headrace.weights.quantisation import nbytes
from headrace.weights.tensor import Tensor, Weights

DECODE_SHARE: Final = 0.82  # of the reads, one sequence
PREFILL_SHARE: Final = 0.5  # of the int8 multiply-adds, a prompt of 512 tokens


@dataclass(frozen=True, slots=True)
class Shapes:
    """What `Cost` asks of a checkpoint, without one: tensors of true sizes that take no memory."""

    plan: Plan
    config: Any
    weights: Weights

    @property
    def backbone(self) -> Any:
        return getattr(self.config, "backbone", self.config)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one sequence: answering at the beginning of a context, and reading a prompt."""

    decode: float
    prefill: float


def shapes_of(member: Member, quant: str = "q4_0", head: str = "q6_k") -> Shapes:
    """A member of the family as its files are published."""
    architecture, config = config_of("", member)
    plan = architecture.plan(config)
    weights: dict[str, tuple[Tensor, ...]] = {}
    for name in plan.weights():
        shape = shape_of(name, member)
        kind = plain_type(architecture.gguf_name(name), shape, quant, head)
        tensor = Tensor(name, kind, shape, np.broadcast_to(np.uint8(0), (nbytes(kind, shape),)))
        weights[name] = tensor.unstack() if len(shape) == 3 else (tensor,)
    return Shapes(plan, config, weights)


def speed(cost: Cost, read_bytes_per_s: float, multiply_adds_per_s: float) -> Speed:
    """Where the machine gives so much."""
    return Speed(
        DECODE_SHARE * read_bytes_per_s / cost.step_bytes(1, 0, "fp16"),
        PREFILL_SHARE * multiply_adds_per_s / cost.multiply_adds,
    )
