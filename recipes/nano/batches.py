"""What a step of training holds: dialogues and drills as token ids, made as they are needed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipes.nano import dialogues, drills
from recipes.nano.gathering import up_to
from recipes.nano.prefixed import Batch
from recipes.nano.tokenizer import BOS, PAD, SPECIAL, encode
from recipes.nano.values import Values

Sequence = tuple[list[int], list[int]]  # token ids, and what follows each that is to be learnt, or -100

DRILLS = 0.08  # of all rows and batches
CONTEXT_SHARE = 0.1  # of the tokens that others say, also predicted


@dataclass(frozen=True, slots=True)
class Source:
    """Prefixes and what follows them, from a random generator alone."""

    tokenizer: Tokenizer

    def __call__(self, rng: random.Random) -> Iterator[tuple[list[int], Iterator[Sequence], int]]:
        """Prefixes, what follows each without end, and how far behind it the positions of that lie."""
        values = Values(rng)
        while True:
            if rng.random() < DRILLS:
                yield *self.drill(rng, values), 0
                continue
            prefix = dialogues.prefix(rng)
            gap = rng.randrange(1200) if rng.random() < 0.15 else 0
            yield encode(self.tokenizer, prefix.text()), self.following(rng, prefix, values), gap

    def following(self, rng: random.Random, prefix: dialogues.Prefix, values: Values) -> Iterator[Sequence]:
        """Dialogues."""
        while True:
            yield self.sequence(rng, dialogues.segments(dialogues.dialogue(rng, prefix, values)))

    def drill(self, rng: random.Random, values: Values) -> tuple[list[int], Iterator[Sequence]]:
        """Half of them copying of anything, so that unseen things are copied too."""
        if rng.random() < 0.5:
            return drills.copying(rng, len(SPECIAL), self.tokenizer.get_vocab_size())
        made = drills.pairs(rng, values)
        return [BOS], (self.sequence(rng, [(f"{given} = ", False), (wanted + "\n", True)]) for given, wanted in made)

    def sequence(self, rng: random.Random, parts: list[dialogues.Segment]) -> Sequence:
        """Each segment encoded on its own: their edges are special tokens, or spaces."""
        ids: list[int] = []
        wanted: list[int] = []
        for text, is_said in parts:
            piece = encode(self.tokenizer, text)
            ids += piece
            wanted += [token if is_said or rng.random() < CONTEXT_SHARE else -100 for token in piece]
        return ids, [*wanted[1:], -100]


POOL = 24  # prefixes whose dialogues are made together
PER_PREFIX = 40
POOL_STEPS = 48  # of a pool's steps this many are taken, so that all processes change pools together
BUDGET = 2560  # dialogue tokens of a step, padding included


def pool(tokenizer: Tokenizer, seed: int, number: int, workers: int) -> list[tuple[Batch, Tensor]]:
    """The steps of one pool, which follow from (seed, number, workers) alone.

    Their order is one of sizes, the same for the pools that workers take together: who has less waits for the others.
    """
    rng = random.Random(f"{seed}/{number}")
    made = [batch for one in islice(Source(tokenizer)(rng), POOL) for batch in _of_one_prefix(*one)]
    made = rng.sample(made, POOL_STEPS) if len(made) > POOL_STEPS else made
    made.sort(key=lambda one: one[0].dialogues.numel() + len(one[0].prefix))
    random.Random(f"{seed}/{number // workers}").shuffle(made)
    return made


def _of_one_prefix(prefix: list[int], sequences: Iterator[Sequence], gap: int) -> Iterator[tuple[Batch, Tensor]]:
    taken = sorted(islice(sequences, PER_PREFIX), key=lambda one: len(one[0]))
    while taken:
        length = up_to(len(taken[-1][0]), 16)
        count = max(1, BUDGET // length)
        taken, together = taken[:-count], taken[-count:]
        tokens = torch.full((len(together), length), PAD)
        targets = torch.full((len(together), length), -100)
        for row, (ids, wanted) in enumerate(together):
            tokens[row, : len(ids)] = torch.tensor(ids)
            targets[row, : len(ids)] = torch.tensor(wanted)
        yield Batch(torch.tensor(prefix), tokens, gap), targets.flatten()
