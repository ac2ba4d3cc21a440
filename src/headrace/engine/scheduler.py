"""What each step works on. `schedule` says what to do, the core does it, `commit` writes down what came of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from headrace.engine.batch import Part, Stepped, no_ids
from headrace.engine.cache import Block, BlockCache
from headrace.engine.pace import Pace
from headrace.engine.request import Sequence
from headrace.errors import CacheExceeded, HeadraceError
from headrace.events import Reason, Text
from headrace.text.constraint import Constraint

MOST_FORCED = 64  # tokens that a grammar appends at once: more count as a prompt, which waits for its share of a chunk


@dataclass(slots=True)
class Scheduler:
    """Owns the queues. Sequences that are admitted decode together, one token a step, beside chunks of new prompts.

    A sequence takes blocks as it grows. When there are none left, the one that came last is put back into the queue and
    computes its tokens again later, but for those that are still in the cache. `barred` are ids that are never sampled,
    whatever a request says.
    """

    cache: BlockCache
    max_sequences: int
    pace: Pace = field(default_factory=Pace)
    barred: NDArray[np.int32] = field(default_factory=no_ids)
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    preempted: int = 0  # how often a sequence was put back

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def schedule(self) -> list[Part]:
        """The parts of the next step, in order of arrival; empty when there is nothing to do."""
        self._drop_cancelled()
        self._admit()
        # Prompts that are only scored go first and alone: they end with their prompt, so nobody waits long for them.
        scoring = any(sequence.keep_logits for sequence in self.running)
        chosen = [sequence for sequence in self.running if sequence.keep_logits == scoring]
        counts = self._shares(chosen)
        parts = list[Part]()
        for sequence in chosen:
            count = counts[sequence]
            if count and sequence in self.running and self._reserve(sequence, count):
                part = self._part(sequence, count)
                parts += [part] if part else []
        return parts

    def unmasked(self, parts: SequenceOf[Part]) -> list[Constraint]:
        """The constraints of running sequences that have no part in this step."""
        stepped = {id(part.sequence) for part in parts}
        return [s.constraint for s in self.running if s.constraint and id(s) not in stepped]

    def commit(self, parts: SequenceOf[Part], stepped: Stepped) -> None:
        """Takes the sampled ids, one for each row of the step."""
        ids = iter(stepped.ids.tolist())
        for part in parts:
            self._advance(part.sequence, part.count)
            for token in islice(ids, len(part.rows)):
                self._take(part.sequence, token)

    def commit_logits(self, parts: SequenceOf[Part], logits: NDArray[np.float32]) -> None:
        """Gives out the logits of sequences that asked for them instead of a continuation."""
        first = 0
        for part in parts:
            sequence = part.sequence
            self._advance(sequence, part.count)
            sequence.outputs.put(logits[first : first + part.count])
            first += part.count
            if sequence.computed == sequence.length:
                self._finish(sequence, "stop")

    def fail(self, error: BaseException) -> None:
        """Ends everything with an error."""
        for sequence in [*self.running, *self.waiting]:
            sequence.outputs.put(error)
        for sequence in self.running:
            self._release(sequence)
        self.running.clear()
        self.waiting.clear()

    def _admit(self) -> None:
        """Lets in who is next while there is room for what it has to compute, and a block more for each that runs."""
        while self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if sequence.length > self.cache.capacity:
                self.waiting.popleft()
                sequence.outputs.put(CacheExceeded(sequence.length, self.cache.capacity))
                continue
            chain = [] if sequence.keep_logits else self.cache.match(sequence.ids[: sequence.length - 1])
            self.cache.hold(chain)
            missing = self.cache.blocks_for(sequence.length) - len(chain)
            if self.running and missing + len(self.running) > self.cache.available:
                self.cache.release(chain)
                return
            self.waiting.popleft()
            self._enter(sequence, chain)

    def _enter(self, sequence: Sequence, chain: list[Block]) -> None:
        sequence.held = chain
        sequence.blocks = [block.number for block in chain]
        sequence.computed = len(chain) * self.cache.block_tokens
        self.running.append(sequence)
        if sequence.clock.started is not None:
            return  # it was here before
        sequence.ids = sequence.ids[: self.cache.capacity]
        sequence.clock.started = time.perf_counter()
        sequence.cached = sequence.computed
        if sequence.length == sequence.limit and not sequence.keep_logits:
            self._finish(sequence, "length")  # num_predict is 0
        elif sequence.constraint:
            try:
                self._force(sequence, sequence.constraint.begin())
            except HeadraceError as error:
                self._fail(sequence, error)

    def _shares(self, sequences: SequenceOf[Sequence]) -> dict[Sequence, int]:
        """Tokens of each for the next step: who is nearly up to date goes on, the others share a chunk equally."""
        left = {sequence: sequence.length - sequence.computed for sequence in sequences}
        decoding = [sequence for sequence in sequences if sequence.caught_up and left[sequence] <= MOST_FORCED]
        behind = sorted((one for one in sequences if one not in decoding), key=lambda one: left[one])
        counts = {sequence: left[sequence] for sequence in decoding}
        budget = self.pace.chunk_tokens(len(decoding))
        for place, sequence in enumerate(behind):
            counts[sequence] = min(left[sequence], budget // (len(behind) - place))
            budget -= counts[sequence]
        return counts

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        """Gives the sequence the blocks for its next tokens, if need be those of sequences that came later."""
        missing = self.cache.blocks_for(sequence.computed + count) - len(sequence.blocks)
        while missing > self.cache.available:
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        sequence.blocks += self.cache.take(max(0, missing))
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.computed, sequence.caught_up = 0, False
        self.waiting.appendleft(sequence)
        self.preempted += 1

    def _release(self, sequence: Sequence) -> None:
        self.cache.release(sequence.held)
        self.cache.give_back(sequence.blocks[len(sequence.held) :])
        sequence.held, sequence.blocks = [], []

    def _advance(self, sequence: Sequence, count: int) -> None:
        """`count` more tokens have been computed: blocks that are full now can be found by others."""
        sequence.computed += count
        sequence.caught_up |= sequence.computed == sequence.length
        size = self.cache.block_tokens
        while (first := len(sequence.held) * size) + size <= sequence.computed:
            place = len(sequence.held)
            block = self.cache.keep(sequence.blocks[place], sequence.ids[first : first + size], sequence.held)
            sequence.blocks[place] = block.number
            sequence.held.append(block)

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in self.running if s.cancelled]:
            self._finish(sequence, "cancelled")
        for sequence in [s for s in self.waiting if s.cancelled]:
            self.waiting.remove(sequence)
            sequence.finish("cancelled")

    def _part(self, sequence: Sequence, count: int) -> Part | None:
        """None where the sequence has failed: its grammar may turn out to be too much for the parser."""
        if sequence.keep_logits:
            return Part(sequence, count, range(count))
        if sequence.computed + count < sequence.length:
            return Part(sequence, count, range(0))
        try:
            mask = sequence.constraint.mask() if sequence.constraint else None
        except HeadraceError as error:
            self._fail(sequence, error)
            return None
        return Part(sequence, count, range(count - 1, count), mask, self.barred)

    def _take(self, sequence: Sequence, token: int) -> None:
        """The token that was sampled, and those that its grammar forces after it."""
        sequence.clock.first_token = sequence.clock.first_token or time.perf_counter()
        if self._append(sequence, token) and sequence.constraint:
            try:
                self._force(sequence, sequence.constraint.accept(token))
            except HeadraceError as error:
                self._fail(sequence, error)

    def _force(self, sequence: Sequence, tokens: Iterable[int]) -> None:
        """Appends what leaves no choice: it is computed along with what follows, in one step."""
        for token in tokens:
            sequence.forced += 1
            if not self._append(sequence, token):
                return

    def _append(self, sequence: Sequence, token: int) -> bool:
        """Whether the sequence goes on after this token."""
        sequence.ids[sequence.length] = token
        sequence.length += 1
        if token in sequence.end_ids:
            self._finish(sequence, "stop")
            return False
        if sequence.text:
            if piece := sequence.text.push(token):
                sequence.outputs.put(Text(piece))
            if sequence.text.stopped:
                self._finish(sequence, "stop")
                return False
        if sequence.length == sequence.limit:
            self._finish(sequence, "length")
            return False
        return True

    def _fail(self, sequence: Sequence, error: HeadraceError) -> None:
        """Ends one sequence with an error."""
        self._leave(sequence)
        sequence.outputs.put(error)

    def _finish(self, sequence: Sequence, reason: Reason) -> None:
        self._leave(sequence)
        sequence.finish(reason)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
