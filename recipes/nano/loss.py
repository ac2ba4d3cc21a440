"""Cross-entropy of what is to be said, against the embedding's own table."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor

from recipes.nano.fused import fused
from recipes.nano.gathering import pick, up_to
from recipes.nano.model import Nano, Step

ROWS = 128


def loss_of(model: Nano, step: Step, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean over what is to be learnt: `targets` are what follows the step's tokens, or negative."""
    hidden, targets = model(step, dtype), step.aims(targets)
    if hidden.is_cuda:  # whose caches hold no rows of logits between one kernel and the next
        return F.cross_entropy(model.head(hidden).float(), targets)
    wanted = (targets >= 0).nonzero()[:, 0]
    filling = up_to(len(wanted), ROWS) - len(wanted)
    rows = F.pad(pick(hidden, wanted), (0, 0, 0, filling))
    aims = F.pad(targets[wanted], (0, filling), value=-100)
    return cross_entropy(rows, model.embedding.table(), aims) / len(wanted)


def cross_entropy(rows: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Summed over rows [R, hidden] against a table [vocabulary, hidden], targets [R] below 0 left out.

    The gradient is made beside the loss, `ROWS` at a time, while the logits are still in the cache.
    """
    total: Tensor = _CrossEntropy.apply(rows, table, targets)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        weight = table.to(rows.dtype)
        gradient, losses = rows.new_empty(len(rows), len(weight)), []
        for start in range(0, len(rows), ROWS):
            logits, target = F.linear(rows[start : start + ROWS], weight), targets[start : start + ROWS, None]
            counted, target = target >= 0, target.clamp(min=0)
            total, part = _softmax(logits, counted)
            losses.append(((total - logits.gather(1, target).float()) * counted).sum())
            part.scatter_add_(1, target, -counted.to(part.dtype))
            gradient[start : start + ROWS] = part
        ctx.save_for_backward(rows, weight, gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, gradient = ctx.saved_tensors
        return (gradient @ weight) * scale.to(rows.dtype), (gradient.T @ rows).to(scale.dtype) * scale, None


@fused
def _softmax(logits: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the exponentials' sum [R, 1], and the softmax in the logits' type, 0 in rows not counted."""
    precise = logits.float()
    high = precise.amax(-1, keepdim=True)
    exponentials = (precise - high).exp()
    total = exponentials.sum(-1, keepdim=True)
    return total.log() + high, (exponentials * (counted / total)).to(logits.dtype)
