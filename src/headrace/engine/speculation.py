"""Drafts: tokens that may come next, verified many at a time, so that a step gives more than one token.

Prompt lookup (Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding): what followed the last few tokens
when they stood in the context before is likely to follow them again: in editing, extraction, code, tables. Elsewhere a
small model may guess better (`headrace.engine.draft_model`). Rows of one step give the same bits as steps of one row,
and a row draws by its position, so a token is kept exactly where the model would have taken it without a draft: the
output never depends on drafts, greedy or sampled. What drafts cost is time, that of making them and that of verifying
wrong ones: a draft is as long as pays by what has been learnt of both, and the ledger keeps the loss within bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MOST_DRAFTED = 16  # tokens of a draft
NGRAMS = (3, 2)  # tokens that must have stood together before: the longer ones are looked for first
LONGEST_MATCH = 8  # tokens that are compared
GUESSED = 0  # how a model's own guess is trusted; other trusts are the tokens that a place in the context matches
# How often a token of a draft holds where all before it held, by trust, and for how many observed ones that stands.
PRIORS: Mapping[int, tuple[float, float]] = MappingProxyType(
    {GUESSED: (0.7, 6), 2: (0.45, 6), 3: (0.7, 6), 4: (0.8, 6), 5: (0.9, 8), LONGEST_MATCH: (0.95, 10)}
)
REMEMBERED = 30.0  # tokens: what came true longer ago counts less
CREDIT_TOKENS = 3.0  # that a sequence may lose before it has saved anything, in times of a step
CREDIT_SHARE = 0.01  # of its decoding time that it may lose besides
WEIGHT = 0.2  # of the last step in the running estimate of its cost
MOST_LEARNT = 64  # tokens of a step: longer ones hold prompts
GROWTH = 0.25  # what a token adds to a step, in times of the smallest step, until it has been seen


class Drafter(Protocol):
    """Proposes what may follow in one sequence. `ids` is always a continuation of what it was shown before."""

    def read(self, ids: NDArray[np.int32]) -> bool:
        """Takes in the context, or some more of it, before the first draft; whether it is ready for one.

        What that takes is spent before there is anything to save, so it is not held against the drafts that follow.
        """

    def trust(self, ids: NDArray[np.int32]) -> int | None:
        """How well founded a draft would be that follows `ids`, as a key of PRIORS; None where there is none."""

    def propose(self, ids: NDArray[np.int32], most: int) -> list[int]:
        """At most `most` tokens that may follow `ids`."""

    def close(self) -> None:
        """Gives back what it holds. It may be asked again later, and then reads again."""


@dataclass(slots=True)
class PromptLookup:
    """Finds the last tokens of the context further up in it: the latest place of the longest n-gram counts."""

    seen: int = 0  # tokens of the context that are in the index
    index: dict[bytes, int] = field(default_factory=dict)  # n-gram -> the position behind it

    def read(self, ids: NDArray[np.int32]) -> bool:
        """All but the last token, behind which nothing stands yet."""
        for end in range(max(self.seen, min(NGRAMS)), len(ids)):
            for length in NGRAMS:
                if length <= end:
                    self.index[ids[end - length : end].tobytes()] = end
        self.seen = len(ids)
        return True

    def trust(self, ids: NDArray[np.int32]) -> int | None:
        place = self._place(ids)
        return None if place is None else _trust_of(ids, place)

    def propose(self, ids: NDArray[np.int32], most: int) -> list[int]:
        place = self._place(ids)
        return [] if place is None else ids[place : place + most].tolist()

    def _place(self, ids: NDArray[np.int32]) -> int | None:
        """Where what may follow begins."""
        self.read(ids)
        places = (self.index.get(ids[-length:].tobytes()) for length in NGRAMS if length <= len(ids))
        return next((place for place in places if place is not None), None)

    def close(self) -> None:
        """It holds nothing of anybody's."""


def _trust_of(ids: NDArray[np.int32], place: int) -> int:
    """By how many tokens before `place` are those at the end of the context."""
    length = min(LONGEST_MATCH, place)
    differs = np.flatnonzero(ids[place - length : place][::-1] != ids[len(ids) - length :][::-1])
    matched = int(differs[0]) if len(differs) else length
    return max(trust for trust in PRIORS if trust <= max(matched, min(NGRAMS)))


@dataclass(slots=True)
class StepCosts:
    """What a step of so many decoding tokens takes, learnt from the steps that were taken."""

    seconds: dict[int, float] = field(default_factory=dict)

    def observe(self, tokens: int, seconds: float) -> None:
        if tokens > MOST_LEARNT:
            return
        known = self.seconds.get(tokens)
        self.seconds[tokens] = seconds if known is None else (1 - WEIGHT) * known + WEIGHT * seconds

    def of(self, tokens: int) -> float | None:
        """An estimate for `tokens`; None before anything was seen."""
        return float(self._estimates(np.array([tokens]))[0]) if self.seconds else None

    def longer(self, tokens: int, most: int) -> NDArray[np.float64]:
        """By how many seconds a step of `tokens`, which has been seen, becomes longer by 1 to `most` more [most]."""
        return self._estimates(np.arange(tokens + 1, tokens + most + 1)) - self.seconds[tokens]

    def _estimates(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """By the nearest counts that were seen."""
        counts = sorted(self.seconds)
        beyond = np.maximum(tokens - counts[-1], 0) * GROWTH * self.seconds[counts[0]]
        return np.interp(tokens, counts, [self.seconds[count] for count in counts]) + beyond


@dataclass(slots=True)
class Ledger:
    """What the drafts of one sequence have saved and cost, in seconds, and how many of their tokens held, by trust."""

    saved_s: float = 0.0
    decoded_s: float = 0.0
    seen: dict[int, tuple[float, float]] = field(default_factory=dict)  # trust -> tokens that held, and that did not
    making_s: float = 0.0  # what making a token of a draft takes
    trust: int = GUESSED  # of the draft that is being verified

    def allowed(self, token_s: float) -> bool:
        """Whether drafts have not lost too much. `token_s` is a token's time without."""
        return self.saved_s > -(CREDIT_TOKENS * token_s + CREDIT_SHARE * self.decoded_s)

    def length(self, trust: int, token_s: float, longer: NDArray[np.float64]) -> int:
        """How many tokens to draft: 0 where none would pay. `longer` is what 1, 2, ... more tokens add to a step."""
        self.trust = trust
        held, failed = self._seen(trust)
        counts = np.arange(1, len(longer) + 1)
        saved = np.cumsum((held / (held + failed)) ** counts) * token_s - longer - self.making_s * counts
        best = int(saved.argmax())
        return best + 1 if saved[best] > 0 else 0

    def pay(self, seconds: float, tokens: int = 0) -> None:
        """For making a draft of so many tokens, or for finding that there is none to make."""
        self.saved_s -= seconds
        if tokens:
            self.making_s += WEIGHT * (seconds / tokens - self.making_s) if self.making_s else seconds / tokens

    def enter(self, drafted: int, accepted: int, saved_s: float) -> None:
        """A draft was verified."""
        self.saved_s += saved_s
        held, failed = self._seen(self.trust)
        held, failed = held + accepted, failed + (accepted < drafted)
        fade = min(1.0, REMEMBERED / (held + failed))
        self.seen[self.trust] = held * fade, failed * fade

    def _seen(self, trust: int) -> tuple[float, float]:
        share, weight = PRIORS[trust]
        return self.seen.get(trust, (share * weight, (1 - share) * weight))


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
