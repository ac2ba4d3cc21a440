"""What each step works on. `schedule` says what to do, the core does it, `commit` writes down what came of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.engine.batch import Part, Stepped, no_ids
from headrace.engine.cache import Block, BlockCache
from headrace.engine.outcome import Outcome
from headrace.engine.pace import Pace
from headrace.engine.parts import draft_of, part_of
from headrace.engine.repetition import is_endless
from headrace.engine.request import Chosen, Sequence, Wants
from headrace.engine.speculation import StepCosts, settle
from headrace.engine.status import Counts
from headrace.errors import CacheExceeded
from headrace.events import Reason, Text
from headrace.text.constraint import Constraint

ECHO_TOKENS = 64  # of a prompt in one step, where each needs its own row of logits
MOST_FORCED = 64  # tokens that a grammar appends at once: more count as a prompt, which waits for its share of a chunk


@dataclass(slots=True)
class Scheduler:
    """Owns the queues. Sequences that are admitted decode together, one token a step, beside chunks of new prompts.

    A sequence takes blocks as it grows. When there are none left, the one that came last is put back into the queue and
    computes its tokens again later, but for those that are still in the cache. `barred` are ids that are never sampled,
    whatever a request says. Sequences that `follow` another have the same prompt: it is computed once, but for its last
    token, and then they part.
    """

    cache: BlockCache
    max_sequences: int
    pace: Pace = field(default_factory=Pace)
    barred: NDArray[np.int32] = field(default_factory=no_ids)
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    costs: StepCosts = field(default_factory=StepCosts)
    slots: list[int] = field(default_factory=list)  # draft slots of the core that nobody has
    copies: list[tuple[int, int]] = field(default_factory=list)  # blocks to copy before the next step: from, to
    kind: Wants = "tokens"  # of the last step
    preempted: int = 0  # how often a sequence was put back

    def __post_init__(self) -> None:
        self.slots = list(range(self.max_sequences))

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def counts(self) -> Counts:
        """How it stands. For the thread that owns it."""
        cache, running = self.cache, self.running
        used = cache.count - len(cache.free)
        own = sum(len(one.blocks) - len(one.held) for one in running)
        return Counts(len(running), len(self.waiting), cache.count, used, used - own, cache.evicted, self.preempted)

    def schedule(self) -> list[Part]:
        """The parts of the next step, in order of arrival; empty when there is nothing to do."""
        self.copies.clear()
        self._drop_cancelled()
        self._admit()
        self._fork()
        # Prompts that are only scored have steps of their own, in turn with those of all others.
        kinds = sorted({sequence.wants for sequence in self.running})
        self.kind = next((kind for kind in kinds if kind > self.kind), kinds[0] if kinds else self.kind)
        chosen = [sequence for sequence in self.running if sequence.wants == self.kind]
        counts = self._shares(chosen)
        drafting = all(sequence.caught_up and counts[sequence] == 1 for sequence in chosen)
        parts = list[Part]()
        for sequence in chosen:
            count = counts[sequence]
            if count and sequence in self.running and self._reserve(sequence, count):
                part = self._part(sequence, count, len(chosen) if drafting else 0)
                parts += [part] if part else []
        return parts

    def unmasked(self, parts: SequenceOf[Part]) -> list[Constraint]:
        """The constraints of running sequences that have no part in this step."""
        stepped = {id(part.sequence) for part in parts}
        return [s.constraint for s in self.running if s.constraint and id(s) not in stepped]

    def commit(self, parts: SequenceOf[Part], stepped: Stepped, seconds: float) -> None:
        """Takes what a step of so many seconds gave."""
        read = [part for part in parts if not self._is_decoding(part.sequence, part.count - len(part.draft))]
        prompts = sum(part.count for part in read)
        row = token = 0
        accepted = list[int]()
        for part in parts:
            accepted.append(self._committed(Outcome(part, stepped, row, token)))
            row += len(part.rows)
            token += part.count
        self.pace.observe(prompts, seconds)
        if not prompts:
            self._settle(parts, accepted, seconds)

    def commit_rows(self, parts: SequenceOf[Part], rows: NDArray[np.float32]) -> None:
        """Gives out the logits or hidden states of sequences that want them instead of a continuation."""
        first = 0
        for part in parts:
            sequence = part.sequence
            known = max(0, sequence.told - sequence.computed)  # given out before it was put back
            self._advance(sequence, part.count)
            if known < part.count:
                sequence.outputs.put(rows[first + known : first + part.count])
                sequence.told = sequence.computed
            first += part.count
            if sequence.computed == sequence.length:
                self._finish(sequence, "stop")

    def fail(self, error: BaseException) -> None:
        """Ends everything with an error."""
        everybody = [*self.running, *self.waiting]
        for sequence in [*everybody, *(follower for one in everybody for follower in one.followers)]:
            sequence.outputs.put(error)
        for sequence in self.running:
            self._release(sequence)
        self.running.clear()
        self.waiting.clear()

    def _admit(self) -> None:
        """Lets in who is next while there is room for what it and those that run have to compute."""
        while self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if sequence.length > self.cache.capacity:
                self.waiting.popleft()
                self._disband(sequence)
                sequence.outputs.put(CacheExceeded(sequence.length, self.cache.capacity))
                continue
            chain = self.cache.match(sequence.ids[: sequence.skippable])
            self.cache.hold(chain)
            missing = self.cache.blocks_for(sequence.length) - len(chain)
            if self.running and missing + self._owed() > self.cache.available:
                self.cache.release(chain)
                return
            self.waiting.popleft()
            self._enter(sequence, chain)

    def _owed(self) -> int:
        """Blocks that running sequences will want for the tokens that they have, and one more for each."""
        return sum(1 + max(0, self.cache.blocks_for(s.length) - len(s.blocks)) for s in self.running)

    def _fork(self) -> None:
        """Lets the followers of a sequence go whose prompt has been computed but for its last token."""
        for leader in list(self.running):
            if not leader.followers or leader.computed < leader.prompt_tokens - 1:
                continue
            followers, leader.followers = leader.followers, []
            partial = leader.blocks[len(leader.held) :]
            for place, follower in enumerate(followers):
                if len(self.running) == self.max_sequences or len(partial) + self._owed() > self.cache.available:
                    self.waiting.extendleft(reversed(followers[place:]))  # most of it they will find in the cache
                    break
                own = self.cache.take(len(partial))
                self.copies += zip(partial, own, strict=True)
                self.cache.hold(leader.held)
                self._enter(follower, list(leader.held), own, leader.computed)

    def _enter(self, sequence: Sequence, chain: list[Block], own: SequenceOf[int] = (), computed: int = 0) -> None:
        """Begins with the blocks of `chain`, which are held for it, and with `own` ones, up to `computed` tokens."""
        sequence.held = chain
        sequence.blocks = [*(block.number for block in chain), *own]
        sequence.computed = max(computed, len(chain) * self.cache.block_tokens)
        sequence.slot = self.slots.pop() if sequence.drafter else -1
        self.running.append(sequence)
        if sequence.clock.started is not None:
            return  # it was here before
        sequence.ids = sequence.ids[: self.cache.capacity]
        sequence.clock.started = time.perf_counter()
        sequence.cached = sequence.computed
        if sequence.echoes_only and not sequence.goal:
            sequence.outputs.put(Chosen(int(sequence.ids[0]), None, of_prompt=True))  # its one token follows none
            self._finish(sequence, "length")
        elif sequence.wants == "tokens" and sequence.length == sequence.limit and not sequence.echoes_only:
            self._finish(sequence, "length")  # num_predict is 0
        elif sequence.constraint:
            try:
                self._force(sequence, sequence.constraint.begin())
            except Exception as error:  # a bug of one sequence's grammar is not the others' either
                self._fail(sequence, error)

    def _shares(self, sequences: SequenceOf[Sequence]) -> dict[Sequence, int]:
        """Tokens of each for the next step: who is nearly up to date goes on, the others share a chunk equally."""
        left = {sequence: sequence.goal - sequence.computed for sequence in sequences}
        decoding = [sequence for sequence in sequences if self._is_decoding(sequence, left[sequence])]
        behind = sorted((one for one in sequences if one not in decoding), key=lambda one: left[one])
        counts = {sequence: left[sequence] for sequence in decoding}
        budget = self.pace.chunk_tokens(len(decoding))
        for place, sequence in enumerate(behind):
            share = budget // (len(behind) - place)
            counts[sequence] = min(left[sequence], share, ECHO_TOKENS if sequence.asked.echo else share)
            budget -= counts[sequence]
        return counts

    @staticmethod
    def _is_decoding(sequence: Sequence, count: int) -> bool:
        """Whether so many tokens are what it has gained since it was up to date, and no prompt."""
        return sequence.caught_up and count <= MOST_FORCED

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
        sequence.held, sequence.blocks, sequence.rewind = [], [], 0
        if sequence.drafter:
            sequence.drafter.close()
        if sequence.slot >= 0:
            self.slots.append(sequence.slot)
            sequence.slot = -1

    def _advance(self, sequence: Sequence, count: int) -> None:
        """`count` more tokens have been computed: blocks that are full now can be found by others."""
        sequence.computed += count
        sequence.caught_up |= sequence.computed == sequence.length
        size = self.cache.block_tokens
        while (first := len(sequence.held) * size) + size <= sequence.computed:
            place = len(sequence.held)
            parent = sequence.held[-1] if sequence.held else None
            block = self.cache.keep(sequence.blocks[place], sequence.ids[first : first + size], parent)
            sequence.blocks[place] = block.number
            sequence.held.append(block)

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in self.running if s.cancelled]:
            self._finish(sequence, "cancelled")
        for sequence in [s for s in self.waiting if s.cancelled]:
            self.waiting.remove(sequence)
            self._disband(sequence)
            sequence.finish("cancelled")

    def _part(self, sequence: Sequence, count: int, decoding: int) -> Part | None:
        """None where the sequence has failed: its grammar may turn out to be too much for the parser.

        `decoding` sequences have one token each in this step, and may try drafts; with 0 nobody may.
        """
        try:
            draft = draft_of(sequence, self.costs, decoding)
            missing = self.cache.blocks_for(sequence.length + len(draft)) - len(sequence.blocks)
            if missing > self.cache.available:
                draft = []
            elif draft:
                sequence.blocks += self.cache.take(max(0, missing))
            return part_of(sequence, count, self.barred, draft)
        except Exception as error:
            self._fail(sequence, error)
            return None

    def _committed(self, outcome: Outcome) -> int:
        """The same as `_commit`, where what is wrong with a text or a grammar ends its own sequence only."""
        try:
            return self._commit(outcome)
        except Exception as error:
            if outcome.part.sequence in self.running:
                self._fail(outcome.part.sequence, error)
            return 0

    def _commit(self, outcome: Outcome) -> int:
        """How many tokens of the part's draft held."""
        part, sequence = outcome.part, outcome.part.sequence
        if part.targets and not sequence.told:
            sequence.outputs.put(Chosen(int(sequence.ids[0]), None, of_prompt=True))
            sequence.told = 1
        for row, target in enumerate(part.targets):
            place = sequence.computed + row + 1
            if target >= 0 and place == sequence.told:
                sequence.outputs.put(outcome.chosen(row, of_prompt=True))
                sequence.told += 1
        self._advance(sequence, part.count - len(part.draft))
        sequence.rewind = 0
        if part.draft:
            return self._verify(outcome)
        if part.rows and (not part.targets or part.targets[-1] < 0):
            self._take(sequence, outcome, len(part.rows) - 1)
        elif sequence.echoes_only and sequence.computed == sequence.goal:
            self._finish(sequence, "length")
        return 0

    def _verify(self, outcome: Outcome) -> int:
        """Takes sampled tokens for as long as they are those of the draft, and the one that comes then."""
        sequence, draft = outcome.part.sequence, list(outcome.part.draft)
        held = 0
        while True:
            before = sequence.length
            if not self._take(sequence, outcome, held):
                return held
            new = sequence.ids[before : sequence.length].tolist()  # with those that a grammar forces
            right = next((i for i, token in enumerate(new) if draft[held + i : held + i + 1] != [token]), len(new))
            held += right
            self._advance(sequence, right)
            if right < len(new):
                sequence.rewind = len(draft) - held
                return held

    def _settle(self, parts: SequenceOf[Part], accepted: SequenceOf[int], seconds: float) -> None:
        """Learns what a step of so many tokens takes, and what drafts have saved."""
        drafted = [len(part.draft) for part in parts]
        saved = settle(self.costs, seconds, drafted, accepted, len(parts))
        for part, right, saved_s in zip(parts, accepted, saved, strict=True):
            part.sequence.ledger.decoded_s += seconds
            if part.draft:
                part.sequence.ledger.enter(len(part.draft), right, saved_s)
        self.costs.observe(sum(part.count for part in parts), seconds)

    def _take(self, sequence: Sequence, outcome: Outcome, row: int) -> bool:
        """The token that was sampled, and those that its grammar forces after it. Whether the sequence goes on."""
        token = outcome.token(row)
        sequence.clock.first_token = sequence.clock.first_token or time.perf_counter()
        if sequence.asked.of_tokens and (sequence.asked.ends or token not in sequence.end_ids):
            sequence.outputs.put(outcome.chosen(row))
        if not self._append(sequence, token):
            return False
        return not sequence.constraint or self._force(sequence, sequence.constraint.accept(token))

    def _force(self, sequence: Sequence, tokens: Iterable[int]) -> bool:
        """Appends what leaves no choice: it is computed along with what follows, in one step."""
        for token in tokens:
            sequence.forced += 1
            if not self._append(sequence, token):
                return False
        return True

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

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        """Ends one sequence with an error."""
        self._leave(sequence)
        sequence.outputs.put(error)

    def _finish(self, sequence: Sequence, reason: Reason) -> None:
        self._leave(sequence)
        sequence.finish(reason)

    def _leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        self._disband(sequence)

    def _disband(self, sequence: Sequence) -> None:
        """The first of those who waited for it takes its place."""
        if sequence.followers:
            first, *others = sequence.followers
            sequence.followers, first.followers = [], others
            self.waiting.appendleft(first)
