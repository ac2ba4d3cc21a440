"""Steps for an accelerator compute what those for a processor do, and follow from the seed whoever makes them."""

# ruff: noqa: E402 (the recipe needs packages that may be absent)

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("faker", reason="the recipe's extra is not installed")

from recipes.nano import batches, rows, tokenizer, train
from recipes.nano.model import MINIATURE, Nano
from recipes.nano.prefixed import Batch
from recipes.nano.start import initialise


@pytest.fixture(scope="module")
def words() -> tokenizer.Tokenizer:
    return tokenizer.train(seed=1, vocab_size=MINIATURE.vocab_size, prefixes=30)


def source(rng: random.Random) -> Iterator[tuple[list[int], Iterator[rows.Sequence], int]]:
    """Random tokens: prefixes of 1, 2, 3 ... of them, one row with a gap."""
    for size in range(1, 9):
        made = ([rng.randrange(20, 2000) for _ in range(rng.randrange(1, 12))] for _ in range(6))
        yield [rng.randrange(20, 2000) for _ in range(size)], ((ids, ids) for ids in made), 5 * (size == 3)


@pytest.mark.parametrize("dense", [False, True])
def test_a_row_is_its_prefix_and_each_dialogue_by_itself(words: tokenizer.Tokenizer, dense: bool) -> None:
    model = Nano(MINIATURE)
    initialise(model, 3, tokenizer.pieces_of(words))
    for experts in model.experts():
        experts.dense = dense
        experts.expert_bias.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    made = rows.Steps(source, seed=1, rows=8, length=96)[0]
    tokens, owner, position, places, targets = map(torch.from_numpy, made)
    assert torch.equal(places, (owner > rows.PREFIX).flatten().nonzero()[:, 0])
    assert torch.equal(tokens.flatten()[places].long(), targets)  # the source wants each token for itself
    places = torch.arange(tokens.numel())
    with torch.no_grad():
        found = model(rows.Rows(tokens, owner, position, places)).view(*tokens.shape, -1)
        taken = [experts.taken.clone() for experts in model.experts()]
        for row in range(len(tokens)):
            prefix, gap = tokens[row][owner[row] == rows.PREFIX], 5 * (row == 2)
            for number in range(1, int(owner[row].max()) + 1):
                mine = owner[row] == number
                alone = model(Batch(prefix, tokens[row][mine][None], gap))
                torch.testing.assert_close(found[row][mine], alone, rtol=0, atol=2e-5)
    assert int(owner.max()) == 6
    assert all(float(each.sum()) == MINIATURE.num_experts_per_tok * int((owner >= 0).sum()) for each in taken)


def test_steps_follow_from_the_seed_whoever_makes_them(words: tokenizer.Tokenizer) -> None:
    def made(makers: int, first: int = 0) -> list[torch.Tensor]:
        data = rows.steps(batches.Source(words), 4, first, 4, makers, rows=2)
        return [part for step, targets in data for part in (step.tokens, step.owner, step.position, targets)]

    alone = made(0)
    assert all(torch.equal(one, other) for one, other in zip(alone, made(2), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(alone[8:], made(1, first=2), strict=True))
    assert not torch.equal(alone[0], alone[4])
    owner, targets = alone[1], alone[3]
    assert (owner == rows.EMPTY).float().mean() < 0.5
    assert len(targets) > 100
    assert int(targets.min()) >= 0


def test_an_accelerators_step_learns(words: tokenizer.Tokenizer) -> None:
    """Uncompiled and on the processor, for want of another device."""
    trainer = train.Trainer(words, MINIATURE, train.Schedule(steps=30, rate=3e-3, warmup=5), seed=1)
    for layer in trainer.model.blocks():
        layer.dropout = train.DROPOUT
    data = list(islice(rows.steps(batches.Source(words), 1, 0, 3, 0, rows=2), 3))
    losses = [float(trainer.update(*data[index % 3])) for index in range(30)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
