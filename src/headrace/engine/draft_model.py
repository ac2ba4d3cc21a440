"""Drafts by a small model of the same vocabulary, which reads along and says what it would say next.

What is new of the context goes through the small model in one step, then its own guesses do, one token after another.
If the large model takes all of them, the next round goes on from there. Else the small one goes back: the step that
read the context has named a draft slot, which knows what the convolutions had seen before the last token of it, and
there the next round begins, in one step with all that has come since.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from headrace.engine.batch import Batch, Part, Stepped
from headrace.engine.cache import BlockCache
from headrace.engine.parameters import Parameters
from headrace.engine.request import Int32, Sequence
from headrace.engine.speculation import GUESSED
from headrace.errors import Unsupported
from headrace.text.tokenizer import Tokenizer
from headrace.weights.mapped import shown

LEAST_PROBABILITY = 0.5  # of a guess by its own maker: less likely ones cost more to verify than they save
CHUNK_TOKENS = 512  # of the context, in one step: the sequences beside it wait for that
REWIND = 1  # tokens that the core has to take back
GREEDY = Parameters(temperature=0)


class Core(Protocol):
    """The part of `_core.Model` that guesses."""

    def step(self, batch: Batch) -> tuple[Any, ...]: ...  # the fields of Stepped


@dataclass(slots=True)
class DraftModel:
    """A small model with a cache of its own, for the drafters of all sequences. Only the engine's thread uses it.

    `core` has at least as many draft slots as there are drafters at a time. It knows the ids below `vocab_size`, of
    which it never guesses those `barred`, and `window` tokens of context. Nothing is guessed beyond one of `end_ids`.
    `check` raises FileInvalid where its file is no longer whole.
    """

    core: Core | None  # None: it was closed
    cache: BlockCache
    slots: list[int]  # that no drafter has
    vocab_size: int
    window: int
    barred: Int32
    end_ids: Collection[int] = ()
    check: Callable[[], None] = lambda: None

    def drafter(self) -> ModelDrafter:
        """For one more sequence."""
        return ModelDrafter(self)

    def close(self) -> None:
        """Lets go of the weights, whoever still holds a drafter."""
        self.core = None


@dataclass(slots=True)
class ModelDrafter:
    """A `Drafter`: what the draft model does for one sequence."""

    model: DraftModel
    own: Sequence | None = None  # as the small model has it, the guesses that it has stepped included
    context: int = 0  # tokens that were context when they were stepped: the draft slot ends there
    ready: bool = False

    def read(self, ids: Int32) -> bool:
        if self.ready or not self._knows(ids):
            return self.ready
        own = self._begin(ids) if self.own is None else self.own
        self._show(own, ids)
        if count := min(CHUNK_TOKENS, len(ids) - 1 - own.computed):
            if not self._reserve(own, own.computed + count):
                return False
            self._read(own, count)
        self.ready = own.computed == len(ids) - 1
        return self.ready

    def trust(self, ids: Int32) -> int | None:
        return GUESSED if self._knows(ids) else None

    def propose(self, ids: Int32, most: int) -> list[int]:
        own, most = self.own, min(most, self.model.window - len(ids))
        if own is None or most <= 0 or not self._knows(ids):
            return []
        self._show(own, ids)
        if not self._reserve(own, len(ids) + most - 1):  # the last guess is never stepped
            return []
        if (count := len(ids) - own.computed) > CHUNK_TOKENS:
            self._read(own, CHUNK_TOKENS)
            return []
        guess, logprob = self._read(own, count)
        draft = list[int]()
        while logprob >= math.log(LEAST_PROBABILITY):
            draft.append(guess)
            if len(draft) == most or guess in self.model.end_ids:
                break
            own.ids[own.computed] = guess
            guess, logprob = self._step(own, 1, slot=-1)
        return draft

    def close(self) -> None:
        if self.own is None:
            return
        cache, own = self.model.cache, self.own
        cache.release(own.held)
        cache.give_back(own.blocks[len(own.held) :])
        self.model.slots.append(own.slot)
        self.own, self.context, self.ready = None, 0, False

    def _begin(self, ids: Int32) -> Sequence:
        """Takes a slot, and the blocks that somebody has computed before."""
        cache = self.model.cache
        own = Sequence(np.zeros(self.model.window, np.int32), 0, GREEDY, seed=0, end_ids=())
        own.held = cache.match(ids[: len(ids) - 1])
        cache.hold(own.held)
        own.blocks = [block.number for block in own.held]
        own.computed = self.context = len(own.held) * cache.block_tokens
        own.slot = self.model.slots.pop()
        own.ids[: own.computed] = ids[: own.computed]
        self.own = own
        return own

    def _show(self, own: Sequence, ids: Int32) -> None:
        """The context as it is now: guesses that have not come true are taken back. Something is left to step."""
        guessed = slice(self.context, own.computed)
        if own.computed >= len(ids) or not np.array_equal(own.ids[guessed], ids[guessed]):
            own.computed, own.rewind = self.context - REWIND, REWIND
        own.ids[own.computed : len(ids)] = ids[own.computed :]

    def _knows(self, ids: Int32) -> bool:
        """Whether the small model has all tokens of the context, and they fit its window."""
        return len(ids) <= self.model.window and bool((ids[self.context :] < self.model.vocab_size).all())

    def _reserve(self, own: Sequence, tokens: int) -> bool:
        cache = self.model.cache
        missing = max(0, cache.blocks_for(tokens) - len(own.blocks))
        if missing > cache.available:
            return False
        own.blocks += cache.take(missing)
        return True

    def _read(self, own: Sequence, count: int) -> tuple[int, float]:
        """Steps tokens of the context. Those that will not be stepped again can be found by others."""
        guess = self._step(own, count, own.slot)
        self.context, own.rewind = own.computed, 0
        size = self.model.cache.block_tokens
        while (first := len(own.held) * size) + size <= self.context - REWIND:
            place, parent = len(own.held), own.held[-1] if own.held else None
            block = self.model.cache.keep(own.blocks[place], own.ids[first : first + size], parent)
            own.blocks[place] = block.number
            own.held.append(block)
        return guess

    def _step(self, own: Sequence, count: int, slot: int) -> tuple[int, float]:
        """The most probable token after so many more, and its log-probability."""
        assert self.model.core is not None
        part = Part(
            own,
            count,
            range(count - 1, count),
            barred=self.model.barred,
            slot=slot,
            rewind=own.rewind,
            top_logprobs=0,
        )
        stepped = Stepped._make(self.model.core.step(Batch.of([part])))
        assert stepped.logprobs is not None
        own.computed += count
        return int(stepped.ids[0]), float(stepped.logprobs[0])


def shared_ids(target: Tokenizer, draft: Tokenizer, name: str) -> set[int]:
    """The ids that both vocabularies have. Raises Unsupported where one of them is another token in the draft model,
    which `name` names."""
    theirs, ours = draft.contents(), target.contents()
    both = theirs.keys() & ours.keys()
    if differing := [id_ for id_ in both if theirs[id_] != ours[id_]]:
        first = min(differing)
        raise Unsupported(
            f"the draft model {name} has another vocabulary: its token {first} is {shown(theirs[first])} and not "
            f"{shown(ours[first])}: take one that has the same tokenizer"
        )
    return both
