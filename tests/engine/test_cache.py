"""Which tokens are stepped again, what is given up, and that no block is ever lost or served to the wrong sequence."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.engine import snapshot
from headrace.engine.batch import Batch, Stepped, no_ids
from headrace.engine.cache import Block, BlockCache
from headrace.engine.draft_model import DraftModel, ModelDrafter
from headrace.engine.pace import LEAST_TOKENS, Pace
from headrace.engine.parameters import Parameters
from headrace.engine.request import Finished, Sequence
from headrace.engine.scheduler import Scheduler
from headrace.engine.speculation import PromptLookup
from headrace.errors import CacheExceeded
from tests.engine.cores import BLOCK, VOCABULARY, BlockCore, of_all, plus_one
from tests.engine.test_draft_model import SureCore


class Desk:
    """Scheduler and core without the engine's thread: a test says when a step is taken."""

    def __init__(self, blocks: int, max_sequences: int = 4, rule: Callable[[list[int]], int] = of_all) -> None:
        self.core = BlockCore(rule)
        self.scheduler = Scheduler(BlockCache(blocks, BLOCK), max_sequences, Pace(8))

    def submit(self, prompt: list[int], num_predict: int = 4, followers: int = 0, **fields: Any) -> Sequence:
        one, *others = (
            Sequence.start(prompt, Parameters(num_predict=num_predict), 1000, **fields) for _ in range(1 + followers)
        )
        one.followers = others
        self.scheduler.waiting.append(one)
        return one

    def step(self) -> int:
        """Tokens that were stepped."""
        parts = self.scheduler.schedule()
        for source, target in self.scheduler.copies:
            self.core.copy_block(source, target)
        count = sum(part.count for part in parts)
        if parts:
            seconds = 1 + 0.3 * (count - 1)
            self.scheduler.commit(parts, Stepped._make(self.core.step(Batch.of(parts))), seconds)
        return count

    def run(self) -> int:
        stepped = 0
        while not self.scheduler.idle:
            stepped += self.step()
        return stepped

    def ask(self, prompt: list[int], num_predict: int = 4) -> tuple[list[int], int]:
        """The answer, and how many tokens were stepped for it."""
        one = self.submit(prompt, num_predict)
        stepped = self.run()
        return answer(one), stepped


def answer(one: Sequence) -> list[int]:
    return one.ids[one.prompt_tokens : one.length].tolist()


def expected(one: Sequence, rule: Callable[[list[int]], int] = of_all) -> list[int]:
    context = one.ids[: one.prompt_tokens].tolist()
    for _ in range(one.generated):
        context.append(rule(context))
    return context[one.prompt_tokens :]


def finished(one: Sequence) -> Finished:
    *_, last = one.stream()
    assert isinstance(last, Finished)
    return last


def chain_of(cache: BlockCache) -> list[Block]:
    """All blocks of the tree."""
    found, left = list[Block](), [block for root in cache.roots.values() for block in root.children.values()]
    while left:
        found.append(left.pop())
        left += found[-1].children.values()
    return found


# --- what is stepped


def test_the_next_turn_steps_what_is_new_and_less_than_a_block() -> None:
    desk, chat, known = Desk(64), list(range(30)), 0
    for _ in range(10):
        reply, stepped = desk.ask(chat)
        assert stepped <= len(chat) - known + BLOCK - 1 + len(reply) - 1  # nothing follows the last token of a reply
        known = len(chat) + len(reply) - 1
        chat = [*chat, *reply, 900, 901, 902]


def test_a_request_that_begins_alike_shares_all_full_blocks() -> None:
    desk = Desk(64)
    shared = list(range(100, 120))
    desk.ask([*shared, 1, 2, 3])
    one = desk.submit([*shared, 4, 5])
    assert desk.run() == 2 + 4 - 1
    assert answer(one) == expected(one)
    assert finished(one).usage.cached_tokens == 20


def test_the_same_prompt_again_steps_one_block_at_most() -> None:
    """The last token is always stepped, for its logits: where it ends a block, that block is."""
    desk = Desk(64)
    first, _ = desk.ask(list(range(16)))
    again, stepped = desk.ask(list(range(16)))
    assert again == first
    assert stepped == BLOCK + 4 - 1


def test_an_edited_turn_steps_only_what_follows_it() -> None:
    desk, chat = Desk(64), list(range(40))
    desk.ask(chat)
    _, stepped = desk.ask([*chat[:22], 777, *chat[23:]])
    assert stepped == 40 - 20 + 4 - 1


def test_two_that_run_side_by_side_end_up_with_one_copy() -> None:
    desk = Desk(64)
    first, second = desk.submit(list(range(16))), desk.submit(list(range(16)))
    desk.run()
    assert answer(first) == answer(second) == expected(first)
    assert len(chain_of(desk.scheduler.cache)) == (16 + 4 - 1) // BLOCK


@pytest.mark.parametrize("length", [1, 2, 4, 5, 6, 16, 17, 18])
def test_followers_compute_the_prompt_once(length: int) -> None:
    desk, prompt = Desk(64, max_sequences=8), list(range(length))
    leader = desk.submit(prompt, followers=3)
    everyone = [leader, *leader.followers]
    assert desk.run() == length - 1 + 4 + 4 * 3  # the prompt, its last token four times, and the replies
    for one in everyone:
        assert answer(one) == expected(one)
        assert finished(one).usage.cached_tokens == (0 if one is leader else length - 1)


def test_followers_do_without_a_leader_that_is_cancelled_or_has_no_room() -> None:
    desk = Desk(64, max_sequences=2)
    leader = desk.submit(list(range(50)), followers=3)
    everyone = leader.followers
    desk.step()
    leader.cancelled = True
    assert 50 <= desk.run() <= 50 + 3 * BLOCK + 3 * 3
    assert finished(leader).reason == "cancelled"
    for one in everyone:
        assert answer(one) == expected(one)
        assert finished(one).reason == "length"


def test_an_adapter_has_blocks_of_its_own() -> None:
    cache, ids = BlockCache(8, BLOCK), np.arange(8, dtype=np.int32)
    (number,) = cache.take(1)
    cache.release([cache.keep(number, ids[:BLOCK], None, "a")])
    assert len(cache.match(ids, "a")) == 1
    assert not cache.match(ids)
    assert not cache.match(ids, "b")


# --- memory


def test_the_least_recently_used_goes_first_and_from_its_end() -> None:
    desk = Desk(12)
    old, new = list(range(100, 117)), list(range(200, 217))
    desk.ask(old, 1)
    desk.ask(new, 1)
    desk.ask(old, 1)  # used again: `new` is the older one now
    assert len(desk.scheduler.cache.free) == 4
    desk.ask(list(range(300, 321)), 1)  # six blocks: the four free ones, and two of those of `new`
    assert [len(desk.scheduler.cache.match(np.array(ids, np.int32))) for ids in (old, new)] == [4, 2]


def test_when_memory_runs_out_the_last_one_waits_and_is_computed_again() -> None:
    desk = Desk(12, rule=plus_one)
    first, second = desk.submit(list(range(16)), 24), desk.submit(list(range(500, 516)), 24)
    desk.run()
    assert answer(first) == list(range(16, 40))
    assert answer(second) == list(range(516, 540))
    assert desk.scheduler.preempted > 0
    assert desk.scheduler.cache.available == 12


def test_a_prompt_that_can_never_fit_is_refused_with_both_numbers() -> None:
    desk = Desk(4)
    one = desk.submit(list(range(17)))
    desk.run()
    with pytest.raises(CacheExceeded, match="the prompt has 17 tokens but the cache has memory for 16"):
        finished(one)


def test_a_reply_ends_where_the_memory_does() -> None:
    desk = Desk(4)
    reply, _ = desk.ask(list(range(10)), 100)
    assert len(reply) == 6


def test_prompts_that_are_let_in_together_fit_together() -> None:
    """What those who run have still to compute is theirs: nobody is let in for it, to be put back at once."""
    desk = Desk(40, max_sequences=8)
    for number in range(8):
        desk.submit(list(range(100 * number, 100 * number + 80)), 1)
    assert desk.run() == 8 * 80
    assert desk.scheduler.preempted == 0


def test_scored_prompts_and_answers_take_turns() -> None:
    desk = Desk(64)
    scored = [Sequence.start([1, 2, 3], Parameters(), 3, wants=wants) for wants in ("logits", "hidden") * 20]
    answering = desk.submit([5, 6], 10)
    desk.scheduler.waiting.extend(scored)
    kinds = []
    while answering.generated < 10:
        parts = desk.scheduler.schedule()
        kinds.append(parts[0].sequence.wants)
        batch = Batch.of(parts)
        if kinds[-1] == "tokens":
            desk.scheduler.commit(parts, Stepped._make(desk.core.step(batch)), 1)
        else:
            desk.scheduler.commit_rows(parts, desk.core.logits(batch))
    assert kinds.count("tokens") == 10
    assert len(kinds) <= 3 * 10


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    desk = Desk(256)
    long, short = desk.submit(list(range(400))), desk.submit([1, 2, 3])
    for _ in range(2):
        desk.step()
    assert short.generated
    assert long.computed


# --- pace


def test_chunks_shrink_to_the_target_only_where_others_wait() -> None:
    pace = Pace(512, target_s=0.25)
    assert pace.chunk_tokens(3) == 512
    for _ in range(20):
        pace.observe(512, 2.0)
    assert pace.chunk_tokens(0) == 512
    assert pace.chunk_tokens(1) == 64
    pace.observe(LEAST_TOKENS - 1, 100)  # says nothing about prompts
    assert pace.chunk_tokens(1) == 64
    for _ in range(20):
        pace.observe(512, 200.0)
    assert pace.chunk_tokens(1) == LEAST_TOKENS


# --- everything at once


def a_letter(context: list[int]) -> int:
    """One of two: so drafts are found everywhere, and half of them are wrong."""
    return of_all(context) % 2


def nearly(context: list[int]) -> int:
    """A small model's guess at it: right two times of three."""
    return a_letter(context) if len(context) % 3 else 1 - a_letter(context)


IDENTITY = snapshot.Identity("a model", "fp16", "scalar", BLOCK, BlockCore.block_bytes)
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=24)  # of two letters: they begin alike again and again


class Anything(RuleBasedStateMachine):
    """Requests, forks, drafts, steps, cancellations, saved and loaded caches, on fewer blocks than they need."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(9, max_sequences=3, rule=a_letter)
        self.small = DraftModel(SureCore(nearly), BlockCache(8, BLOCK), [0, 1, 2], VOCABULARY, 1000, no_ids())
        self.asked: list[Sequence] = []
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "cache"

    @rule(prompt=PROMPTS, num_predict=st.integers(0, 12), followers=st.integers(0, 2), drafts=st.integers(0, 2))
    def submit(self, prompt: list[int], num_predict: int, followers: int, drafts: int) -> None:
        leader = self.desk.submit(prompt, num_predict, followers)
        for one in (leader, *leader.followers):
            one.drafter = (None, PromptLookup(), self.small.drafter())[drafts]
            self.asked.append(one)

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.desk.step()

    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        if self.asked:
            self.asked[which % len(self.asked)].cancelled = True

    @rule()
    def forget(self) -> None:
        self.desk.scheduler.cache.clear()

    @rule()
    def save(self) -> None:
        snapshot.save(self.path, self.desk.scheduler.cache, self.desk.core, IDENTITY, "nobody")

    @rule()
    def load(self) -> None:
        if self.path.exists():
            snapshot.load(self.path, self.desk.scheduler.cache, self.desk.core, IDENTITY)

    @invariant()
    def every_block_is_in_one_place(self) -> None:
        scheduler, cache = self.desk.scheduler, self.desk.scheduler.cache
        tree = chain_of(cache)
        private = [number for one in scheduler.running for number in one.blocks[len(one.held) :]]
        everywhere = sorted([*cache.free, *private, *(block.number for block in tree)])
        assert everywhere == list(range(cache.count))
        for block in tree:
            assert block.users == sum(block in one.held for one in scheduler.running)
            assert (block in cache.idle) == (block.users == 0)
            assert block.parent
            assert block.parent.children[block.tokens] is block

    @invariant()
    def answers_are_those_of_a_model_that_reads_everything(self) -> None:
        for one in self.asked:
            assert answer(one) == expected(one, a_letter)

    @invariant()
    def every_draft_slot_is_free_or_in_use(self) -> None:
        scheduler = self.desk.scheduler
        used = [one.slot for one in scheduler.running if one.slot >= 0]
        assert sorted([*scheduler.slots, *used]) == list(range(scheduler.max_sequences))

    @invariant()
    def the_draft_model_has_all_its_blocks_and_slots(self) -> None:
        """Only drafters of running sequences hold any."""
        small, cache = self.small, self.small.cache
        drafters = [one.drafter for one in self.desk.scheduler.running if isinstance(one.drafter, ModelDrafter)]
        drafting = [drafter.own for drafter in drafters if drafter.own]
        private = [number for own in drafting for number in own.blocks[len(own.held) :]]
        tree = chain_of(cache)
        assert sorted([*cache.free, *private, *(block.number for block in tree)]) == list(range(cache.count))
        assert sorted([*small.slots, *(own.slot for own in drafting)]) == [0, 1, 2]
        for block in tree:
            assert block.users == sum(block in own.held for own in drafting)

    def teardown(self) -> None:
        self.desk.run()
        for one in self.asked:
            assert finished(one).reason in ("length", "cancelled")
            assert one.cancelled or one.generated == min(one.parameters.num_predict, 36 - one.prompt_tokens)
        assert self.desk.scheduler.cache.available == self.desk.scheduler.cache.count
        assert self.small.cache.available == self.small.cache.count
        self.folder.cleanup()


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.slow
def test_ten_thousand_operations() -> None:
    """As above, drawn without Hypothesis: long lives, in which blocks are given up and found again many times."""
    rng = np.random.default_rng(5)
    machine = Anything()
    for number in range(10_000):
        match rng.choice(6, p=(0.15, 0.72, 0.08, 0.02, 0.015, 0.015)):
            case 0:
                prompt = rng.integers(0, 2, rng.integers(1, 25)).tolist()
                machine.submit(prompt, int(rng.integers(0, 13)), int(rng.integers(0, 3)), int(rng.integers(0, 3)))
            case 1:
                machine.step(int(rng.integers(1, 7)))
            case 2:
                machine.cancel(int(rng.integers(0, 1000)))
            case 3:
                machine.forget()
            case 4:
                machine.save()
            case _:
                machine.load()
        machine.every_block_is_in_one_place()
        machine.the_draft_model_has_all_its_blocks_and_slots()
        if number % 500 == 499:
            machine.answers_are_those_of_a_model_that_reads_everything()
            machine.asked = machine.asked[-200:]
    machine.folder.cleanup()
    assert machine.desk.scheduler.cache.evicted > 1000
    assert machine.desk.scheduler.preempted > 10
    assert machine.small.cache.evicted > 100
