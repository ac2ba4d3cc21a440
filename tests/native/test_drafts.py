"""Tokens that are taken back leave no trace: what follows has the same bits as if they had never been there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace import _core
from headrace.plan import fuse
from headrace.reference import Reference
from tests.native.builders import BLOCK_TOKENS, batch, hybrid, int32, logits_of, model

VOCAB = 67
MOST = 3  # tokens that a step can take back
END = BLOCK_TOKENS + 20


def wrong(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return (tokens + 1) % VOCAB


@pytest.mark.parametrize("kv", ["fp16", "int8", "fp32"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_rewind_around_a_border_of_blocks(isa: str, kv: str, threads: int) -> None:
    """From each position near the border: n tokens, the last r of which do not count, for all n and r, side by side."""
    plan, weights = hybrid(np.random.default_rng(1), "Q8_0")
    options: dict[str, Any] = {"isa": isa, "kv": kv, "threads": threads, "draft_slots": 20, "max_rewind": MOST}
    native = model(fuse(plan), weights, **options)
    tokens = np.random.default_rng(2).integers(0, VOCAB, END)
    expected = logits_of(native, tokens, [END])
    filled = [native.read_block(block) for block in (0, 1)]
    cases = [(n, r) for n in range(1, MOST + 3) for r in range(min(n, MOST) + 1)]
    owned = [[2 + 2 * s, 3 + 2 * s] for s in range(len(cases))]
    slots = int32(range(len(cases)))

    def step(sequences: Any, positions: Any, counted: Any, **fields: Any) -> None:
        found = np.split(native.logits(batch(sequences, positions, owned, **fields)), np.cumsum([*map(len, sequences)]))
        for logits, position, count in zip(found, positions, counted, strict=False):
            np.testing.assert_array_equal(logits[:count], expected[position : position + count])

    for first in range(BLOCK_TOKENS - 6, BLOCK_TOKENS + 4):
        for further in (1, 2, 9):
            native.logits(batch([tokens[:first]], blocks=[[44, 45]], rows=[]))
            for blocks in owned:
                native.copy_block(44, blocks[0])
                native.copy_block(45, blocks[1])
            drafts = [tokens[first : first + n].copy() for n, _ in cases]
            for draft, (n, r) in zip(drafts, cases, strict=True):
                draft[n - r :] = wrong(draft[n - r :])
            step(drafts, [first] * len(cases), [n - r for n, r in cases], slots=slots)
            at = [first + n - r for n, r in cases]
            step([tokens[p : p + further] for p in at], at, [further] * len(at), slots=slots,
                 rewinds=int32(r for _, r in cases))  # fmt: skip
            at = [p + further for p in at]
            step([tokens[p:] for p in at], at, [END] * len(at))
            for blocks in owned:
                assert [native.read_block(block).tobytes() for block in blocks] == [b.tobytes() for b in filled]


@dataclass
class Run:
    """A sequence on its way, and what it must give."""

    tokens: NDArray[np.int64]
    expected: NDArray[np.float32]
    filled: list[bytes]  # its blocks, at the end
    blocks: list[int]
    slot: int
    position: int = 0
    rewind: int = 0
    step: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counted: int = 0  # tokens of the step

    def plan(self, rng: np.random.Generator, most: int) -> None:
        """A chunk, or a token and drafts, the last of which are wrong; now and then all of it is taken back."""
        left = len(self.tokens) - self.position
        drafting = left > 1 and rng.random() < 0.7
        n = int(rng.integers(1, min(left, most + 1 if drafting else 40) + 1))
        rejected = int(rng.integers(0, min(n, most) + 1)) if drafting else 0
        self.step, self.counted = self.tokens[self.position : self.position + n].copy(), n - rejected
        self.step[self.counted :] = wrong(self.step[self.counted :])

    def commit(self, native: _core.Model, logits: NDArray[np.float32]) -> None:
        end = self.position + self.counted
        np.testing.assert_array_equal(logits[: self.counted], self.expected[self.position : end])
        self.position, self.rewind = end, len(self.step) - self.counted
        for block, filled in list(zip(self.blocks, self.filled, strict=True))[: end // BLOCK_TOKENS]:
            assert native.read_block(block).tobytes() == filled  # as soon as it is full


@pytest.mark.parametrize("seed", range(12))
def test_random_plans_and_schedules(isa: str, seed: int) -> None:
    """Several sequences, chunks beside drafts, blocks in any order: each gives the bits of an undisturbed prefill."""
    rng = np.random.default_rng(seed)
    shape: dict[str, Any] = {
        "taps": int(rng.integers(1, 7)),
        "hidden": int(rng.choice([32, 96])),
        "head_dim": int(rng.choice([6, 16, 24])),
        "heads": int(rng.choice([2, 4])),
        "experts": int(rng.integers(2, 9)),
        "conv_bias": bool(rng.integers(2)),
    }
    plan, weights = hybrid(rng, str(rng.choice(["F32", "BF16"])), **shape)
    most, kv = int(rng.integers(1, 9)), ("fp16", "int8", "fp32")[seed % 3]
    native = model(plan, weights, isa=isa, kv=kv, threads=1 + seed % 2, draft_slots=5, max_rewind=most)
    undisturbed = model(plan, weights, isa=isa, kv=kv)
    order, runs = rng.permutation(60), list[Run]()
    for s, slot in enumerate(rng.permutation(5)[:4]):
        tokens = rng.integers(0, VOCAB, int(rng.integers(30, 220)))
        expected = logits_of(undisturbed, tokens, [len(tokens)], base=4 * s)
        own = order[10 * s : 10 * s + len(tokens) // BLOCK_TOKENS + 1].tolist()
        filled = [undisturbed.read_block(block).tobytes() for block in range(4 * s, 4 * s + len(own))]
        runs.append(Run(tokens, expected, filled, own, int(slot)))
    while going := [run for run in runs if run.position < len(run.tokens)]:
        chosen = [run for run in going if rng.random() < 0.8] or going[:1]
        for run in chosen:
            run.plan(rng, most)
        work = batch(
            [run.step for run in chosen],
            [run.position for run in chosen],
            [run.blocks for run in chosen],
            slots=int32(run.slot for run in chosen),
            rewinds=int32(run.rewind for run in chosen),
        )
        logits = np.split(native.logits(work), work.starts[1:-1])
        for run, found in zip(chosen, logits, strict=True):
            run.commit(native, found)
    for run in runs:
        assert [native.read_block(block).tobytes() for block in run.blocks] == run.filled


def test_what_is_taken_back_would_have_mattered(isa: str) -> None:
    """Without its slot a sequence would go on from the convolution of the draft; with it, as the reference does."""
    plan, weights = hybrid(np.random.default_rng(3))
    native = model(plan, weights, isa=isa, draft_slots=1, max_rewind=2)
    tokens = np.random.default_rng(4).integers(0, VOCAB, 30)
    expected = Reference(plan, weights).logits(tokens)
    for taken_back in (True, False):
        native.logits(batch([[*tokens[:20], *wrong(tokens[20:22])]], slots=0))
        found = native.logits(batch([tokens[20:]], [20], **({"slots": 0, "rewinds": 2} if taken_back else {})))
        close = np.abs(found - expected[20:]).max() <= 1e-4 * np.ptp(expected)
        assert close == taken_back


def test_slots_cost_no_memory_until_they_are_named() -> None:
    plan, weights = hybrid(np.random.default_rng(1))
    native = model(plan, weights, draft_slots=1 << 20, max_rewind=1000)  # far beyond this machine's memory
    native.logits(batch([[1, 2, 3]], slots=(1 << 20) - 1))
