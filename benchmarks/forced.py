"""A sequence that is made to say a given text, so that what a model of random weights would say does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from headrace.engine.parameters import Parameters
from headrace.engine.request import Sequence as Asked
from headrace.engine.speculation import Drafter
from headrace.model import Model
from headrace.text.constraint import Constraint

Mask = NDArray[np.uint32]


class Forced:
    """Stands for a Constraint: at each place one token may come, and none is appended without its step.

    Of a draft it takes all, whether right or wrong: the model has to find that out, at its usual cost.
    """

    def __init__(self, tokens: Sequence[int], vocab_size: int) -> None:
        self._masks = [_only(token, vocab_size) for token in tokens]
        self._place = 0

    def begin(self) -> list[int]:
        return []

    def mask(self) -> Mask:
        return self._masks[self._place]

    def accept(self, _: int) -> list[int]:
        self._place += 1
        return []

    def ahead(self, draft: Sequence[int]) -> tuple[list[int], list[Mask]]:
        return list(draft), self._masks[self._place : self._place + len(draft) + 1]


def saying(model: Model, prompt: Sequence[int], tokens: Sequence[int], drafter: Drafter | None = None) -> Asked:
    """A sequence, not yet submitted, that answers `prompt` with `tokens`."""
    sampling = Parameters(num_predict=len(tokens), seed=1)
    constraint = cast(Constraint, Forced(tokens, model.checkpoint.backbone.vocab_size))
    return Asked.start(prompt, sampling, model.num_ctx, constraint=constraint, drafter=drafter, loop_guard=False)


def _only(token: int, vocab_size: int) -> Mask:
    mask = np.zeros(-(-vocab_size // 32), np.uint32)
    mask[token // 32] = 1 << token % 32
    return mask
