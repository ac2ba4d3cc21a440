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

from headrace.engine.batch import Part, no_ids
from headrace.engine.cache import BlockPool
from headrace.engine.repetition import is_endless
from headrace.engine.request import Sequence
from headrace.errors import HeadraceError
from headrace.events import Reason, Text
from headrace.text.constraint import Constraint

CHUNK_TOKENS = 512  # of prompts, in one step


@dataclass(slots=True)
class Scheduler:
    """Owns the queues. Sequences that are admitted decode together, one token a step, beside chunks of new prompts.

    `barred` are ids that are never sampled, whatever a request says.
    """

    pool: BlockPool
    max_sequences: int
    chunk_tokens: int = CHUNK_TOKENS
    barred: NDArray[np.int32] = field(default_factory=no_ids)
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def schedule(self) -> list[Part]:
        """The parts of the next step, in order of arrival; empty when there is nothing to do."""
        self._drop_cancelled()
        self._admit()
        # Prompts that are only scored go first and alone: they end with their prompt, so nobody waits long for them.
        scoring = any(sequence.keep_logits for sequence in self.running)
        parts, budget = list[Part | None](), self.chunk_tokens
        for sequence in list(self.running):
            if sequence.keep_logits != scoring:
                continue
            left = sequence.length - sequence.computed
            decoding = sequence.computed >= sequence.prompt_tokens or left == 1  # with tokens that were forced, perhaps
            count = min(left, self.chunk_tokens if decoding else budget)
            if count:
                budget -= 0 if decoding else count
                parts.append(self._part(sequence, count))
        return [part for part in parts if part]

    def unmasked(self, parts: SequenceOf[Part]) -> list[Constraint]:
        """The constraints of running sequences that have no part in this step."""
        stepped = {id(part.sequence) for part in parts}
        return [s.constraint for s in self.running if s.constraint and id(s) not in stepped]

    def commit(self, parts: SequenceOf[Part], sampled: NDArray[np.int32]) -> None:
        """Takes the sampled ids, one for each row of the step."""
        ids = iter(sampled.tolist())
        for part in parts:
            part.sequence.computed += part.count
            for token in islice(ids, len(part.rows)):
                self._take(part.sequence, token)

    def commit_logits(self, parts: SequenceOf[Part], logits: NDArray[np.float32]) -> None:
        """Gives out the logits of sequences that asked for them instead of a continuation."""
        first = 0
        for part in parts:
            sequence = part.sequence
            sequence.computed += part.count
            sequence.outputs.put(logits[first : first + part.count])
            first += part.count
            if sequence.computed == sequence.length:
                self._finish(sequence, "stop")

    def fail(self, error: BaseException) -> None:
        """Ends everything with an error."""
        for sequence in [*self.running, *self.waiting]:
            sequence.outputs.put(error)
        for sequence in self.running:
            self.pool.release(sequence.blocks, sequence.limit)
        self.running.clear()
        self.waiting.clear()

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            if not self.pool.promise(self.waiting[0].limit):
                return
            sequence = self.waiting.popleft()
            sequence.clock.started = time.perf_counter()
            self.running.append(sequence)
            if sequence.length == sequence.limit and not sequence.keep_logits:
                self._finish(sequence, "length")  # num_predict is 0
            elif sequence.constraint:
                try:
                    self._force(sequence, sequence.constraint.begin())
                except HeadraceError as error:
                    self._fail(sequence, error)

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in self.running if s.cancelled]:
            self._finish(sequence, "cancelled")
        for sequence in [s for s in self.waiting if s.cancelled]:
            self.waiting.remove(sequence)
            sequence.finish("cancelled")

    def _part(self, sequence: Sequence, count: int) -> Part | None:
        """None where the sequence has failed: its grammar may turn out to be too much for the parser."""
        self.pool.extend(sequence.blocks, sequence.computed + count)
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
        if sequence.loop_guard and is_endless(sequence.ids[sequence.prompt_tokens : sequence.length]):
            self._finish(sequence, "repetition")
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
        self.pool.release(sequence.blocks, sequence.limit)
        sequence.blocks = []
