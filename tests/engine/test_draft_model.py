"""What a drafter with a model steps, takes back and gives back, over a core that remembers what it was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.engine import draft_model
from headrace.engine.batch import Batch, Stepped, no_ids
from headrace.engine.cache import BlockCache
from headrace.engine.draft_model import DraftModel, ModelDrafter, shared_ids
from headrace.errors import Unsupported
from headrace.text.tokenizer import Tokenizer
from tests import random_models
from tests.engine.cores import BLOCK, VOCABULARY, BlockCore, of_all, plus_one


class SureCore(BlockCore):
    """So sure of every guess: `probability` of the token."""

    def __init__(
        self, rule: Callable[[list[int]], int] = of_all, probability: Callable[[int], float] = lambda _: 1.0
    ) -> None:
        super().__init__(rule)
        self.probability = probability

    def step(self, batch: Batch) -> Any:
        stepped = super().step(batch)
        logprobs = [math.log(self.probability(int(id_))) for id_ in stepped.ids]
        return Stepped(stepped.ids, np.array(logprobs, np.float32))

    @property
    def stepped(self) -> list[int]:
        """Tokens of each step so far."""
        return [len(batch.tokens) for batch in self.batches]


def small(core: SureCore, blocks: int = 64, slots: int = 3, **fields: Any) -> DraftModel:
    rest: dict[str, Any] = {"vocab_size": VOCABULARY, "window": 400, "barred": no_ids()} | fields
    return DraftModel(core, BlockCache(blocks, BLOCK), list(range(slots)), **rest)


def ids(*tokens: int) -> Any:
    return np.array(tokens, np.int32)


def guesses(context: Any, count: int, rule: Callable[[list[int]], int] = of_all) -> list[int]:
    known = context.tolist()
    for _ in range(count):
        known.append(rule(known))
    return known[len(context) :]


def ready(model: DraftModel, context: Any) -> ModelDrafter:
    drafter = model.drafter()
    while not drafter.read(context):
        pass
    return drafter


def all_free(model: DraftModel, slots: int = 3) -> bool:
    return model.cache.available == model.cache.count and sorted(model.slots) == list(range(slots))


def test_guesses_that_come_true_are_not_stepped_again() -> None:
    core = SureCore()
    context = ids(*range(10))
    drafter = ready(small(core), context)
    assert core.stepped == [9]  # but for the last one, whose logits are wanted later
    draft = drafter.propose(context, 5)
    assert draft == guesses(context, 5)
    assert core.stepped == [9, 1, 1, 1, 1, 1]
    context = ids(*context, *guesses(context, 6))
    assert drafter.propose(context, 5) == guesses(context, 5)
    assert core.stepped[6:] == [2, 1, 1, 1, 1]  # its own last guess, and what the large model said then


@pytest.mark.parametrize("length", range(1, 14))
@pytest.mark.parametrize("right", range(6))
def test_it_goes_back_to_where_the_context_ended(length: int, right: int) -> None:
    """Over every border of blocks, and twice: what stood in the core's blocks meanwhile does not show."""
    core = SureCore()
    context = ids(*range(50, 50 + length))
    drafter = ready(small(core), context)
    for _ in range(3):
        draft = drafter.propose(context, 6)
        assert draft == guesses(context, 6)
        before = len(core.batches)
        context = ids(*context, *draft[:right], 999)
        drafter.propose(context, 1)
        assert core.stepped[before] == (1 if right == 5 else 1 + right + 1)  # the sixth guess was never stepped
    drafter.close()
    assert all_free(drafter.model)


def test_a_guess_that_comes_true_undrafted_is_stepped_for_its_logits() -> None:
    """The scheduler may leave a draft out, and the large model say the same: then nothing is left to step."""
    core = SureCore()
    context = ids(1, 2, 3)
    drafter = ready(small(core), context)
    first, _ = drafter.propose(context, 2)
    context = ids(*context, first)
    assert drafter.propose(context, 4) == guesses(context, 4)


def test_it_stops_where_it_is_not_sure() -> None:
    core = SureCore(plus_one, lambda token: 0.9 if token < 13 else 0.4)
    context = ids(8, 9, 10)
    drafter = ready(small(core), context)
    assert drafter.propose(context, 8) == [11, 12]
    assert drafter.propose(ids(8, 9, 10, 11, 12, 13), 8) == []


def test_it_stops_at_an_end_of_the_answer() -> None:
    context = ids(8, 9, 10)
    drafter = ready(small(SureCore(plus_one), end_ids={12}), context)
    assert drafter.propose(context, 8) == [11, 12]


def test_it_stays_within_its_window() -> None:
    context = ids(*range(8))
    drafter = ready(small(SureCore(plus_one), window=10), context)
    assert drafter.propose(context, 8) == [8, 9]
    assert drafter.propose(ids(*range(10)), 8) == []
    assert drafter.propose(ids(*range(11)), 8) == []
    assert not small(SureCore(plus_one), window=10).drafter().read(ids(*range(11)))


def test_tokens_that_it_does_not_have_end_its_drafts() -> None:
    context = ids(*range(8))
    drafter = ready(small(SureCore(plus_one), vocab_size=90), context)
    assert drafter.propose(context, 2) == [8, 9]
    assert drafter.propose(ids(*context, 90), 2) == []
    assert drafter.propose(ids(*context, 90, 3), 2) == []
    assert not drafter.model.drafter().read(ids(3, 90, 3))


def test_a_long_context_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait meanwhile."""
    monkeypatch.setattr(draft_model, "CHUNK_TOKENS", 8)
    core = SureCore(plus_one)
    context = ids(*range(30))
    drafter = small(core).drafter()
    assert [drafter.read(context) for _ in range(4)] == [False, False, False, True]
    assert core.stepped == [8, 8, 8, 5]
    assert drafter.propose(context, 3) == [30, 31, 32]
    context = ids(*context, *range(500, 520))  # said while there were no drafts
    assert [drafter.propose(context, 3) for _ in range(3)] == [[], [], [520, 521, 522]]


def test_what_one_has_read_another_finds() -> None:
    core = SureCore()
    model, prompt = small(core), ids(*range(100, 130))
    first, second = ready(model, prompt), ready(model, prompt)
    assert core.stepped == [29, 29 - 28]
    assert first.propose(prompt, 4) == second.propose(prompt, 4) == guesses(prompt, 4)
    first.close()
    longer = ids(*prompt, 7, 7, 7, 7, 7)
    assert second.propose(longer, 4) == ready(model, longer).propose(longer, 4) == guesses(longer, 4)


def test_closed_it_begins_anew() -> None:
    core = SureCore()
    model, context = small(core), ids(*range(10))
    drafter = ready(model, context)
    drafter.propose(context, 3)
    drafter.close()
    drafter.close()
    assert all_free(model)
    assert drafter.propose(context, 3) == []
    assert drafter.read(context)
    assert drafter.propose(context, 3) == guesses(context, 3)
    model.close()
    assert model.core is None


def test_without_memory_it_guesses_nothing() -> None:
    model, context = small(SureCore(), blocks=5), ids(*range(10))
    first, second = ready(model, context), model.drafter()
    assert first.propose(context, 12) == []  # 21 tokens
    assert first.propose(context, 11) == guesses(context, 11)
    assert not second.read(ids(*range(500, 510)))
    first.close()
    assert second.read(ids(*range(500, 510)))
    assert second.propose(ids(*range(500, 510)), 3)


# --- vocabularies


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return read(tmp_path_factory.mktemp("tokenizer"), random_models.VOCABULARY)


def read(folder: Path, vocab_size: int) -> Tokenizer:
    return Tokenizer.from_json(random_models.save_tokenizer(folder, vocab_size) / "tokenizer.json")


def test_ids_that_both_have_are_the_same_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert shared_ids(tokenizer, tokenizer, "small") == set(range(random_models.VOCABULARY))
    shorter = read(tmp_path, 80)  # the token that is merged comes last
    with pytest.raises(Unsupported, match="the draft model small has another vocabulary: its token 79 is 'ab' and not"):
        shared_ids(tokenizer, shorter, "small")
