"""Drafts: tokens that may come next, verified many at a time, so that a step gives more than one token.

Prompt lookup (Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding): what followed the last few tokens
when they stood in the context before is likely to follow them again: in editing, extraction, code, tables. Elsewhere a
small model may guess better (`headrace.engine.draft_model`). Rows of one step give the same bits as steps of one row,
and a row draws by its position, so a token is kept exactly where the model would have taken it without a draft: the
output never depends on drafts, greedy or sampled. What drafts cost is time, that of making them and that of verifying
wrong ones, and the ledger keeps it within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MOST_DRAFTED = 16  # tokens of a draft
FIRST_DRAFT = 4
NGRAM = 3  # tokens that must have stood together before
CREDIT_TOKENS = 3.0  # that a sequence may lose before it has saved anything, in times of a step
CREDIT_SHARE = 0.01  # of its decoding time that it may lose besides
WEIGHT = 0.2  # of the last step in the running estimate of its cost


class Drafter(Protocol):
    """Proposes what may follow in one sequence. `ids` is always a continuation of what it was shown before."""

    def read(self, ids: NDArray[np.int32]) -> bool:
        """Takes in the context, or some more of it, before the first draft; whether it is ready for one.

        What that takes is spent before there is anything to save, so it is not held against the drafts that follow.
        """

    def propose(self, ids: NDArray[np.int32], most: int) -> list[int]:
        """At most `most` tokens that may follow `ids`."""

    def close(self) -> None:
        """Gives back what it holds. It may be asked again later, and then reads again."""


@dataclass(slots=True)
class PromptLookup:
    """Finds the last tokens of the context further up in it: the latest place counts."""

    seen: int = 0  # tokens of the context that are in the index
    index: dict[bytes, int] = field(default_factory=dict)  # n-gram -> the position behind it

    def read(self, ids: NDArray[np.int32]) -> bool:
        for end in range(max(self.seen, NGRAM), len(ids)):
            self.index[ids[end - NGRAM : end].tobytes()] = end
        self.seen = len(ids)
        return True

    def propose(self, ids: NDArray[np.int32], most: int) -> list[int]:
        self.read(ids)
        place = self.index.get(ids[-NGRAM:].tobytes()) if len(ids) >= NGRAM else None
        return [] if place is None else ids[place : place + most].tolist()

    def close(self) -> None:
        """It holds nothing of anybody's."""


@dataclass(slots=True)
class StepCosts:
    """What a step of so many decoding tokens takes, learnt from the steps that were taken."""

    seconds: dict[int, float] = field(default_factory=dict)

    def observe(self, tokens: int, seconds: float) -> None:
        known = self.seconds.get(tokens)
        self.seconds[tokens] = seconds if known is None else (1 - WEIGHT) * known + WEIGHT * seconds

    def of(self, tokens: int) -> float | None:
        """An estimate for `tokens`, by the nearest counts that were seen; None before anything was."""
        if not self.seconds:
            return None
        counts = np.array(sorted(self.seconds))
        return float(np.interp(tokens, counts, [self.seconds[count] for count in counts]))


@dataclass(slots=True)
class Ledger:
    """What the drafts of one sequence have saved and cost, in seconds, and how long the next one may be."""

    saved_s: float = 0.0
    decoded_s: float = 0.0
    next_draft: int = FIRST_DRAFT

    def allowed(self, token_s: float) -> int:
        """Tokens of the next draft, 0 where drafts have lost too much. `token_s` is a token's time without."""
        credit = CREDIT_TOKENS * token_s + CREDIT_SHARE * self.decoded_s
        return self.next_draft if self.saved_s > -credit else 0

    def pay(self, seconds: float) -> None:
        """For making a draft, or for finding that there is none to make."""
        self.saved_s -= seconds

    def enter(self, drafted: int, accepted: int, saved_s: float) -> None:
        """A draft was verified: twice as long a one next time if all of it held, else one as long as what held."""
        self.saved_s += saved_s
        self.next_draft = min(MOST_DRAFTED, 2 * drafted) if accepted == drafted else max(2, accepted)


def settle(
    costs: StepCosts, step_s: float, drafted: Sequence[int], accepted: Sequence[int], decoding: int
) -> list[float]:
    """What each draft of a step saved, in seconds: the time of its accepted tokens, less its share of the longer step.

    `decoding` sequences took part, each with one token that was no draft.
    """
    plain = costs.of(decoding)
    if plain is None or not decoding:
        return [0.0] * len(drafted)
    longer = step_s - plain
    return [
        right * plain / decoding - longer * length / max(1, sum(drafted))
        for length, right in zip(drafted, accepted, strict=True)
    ]
