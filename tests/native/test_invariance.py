"""A token's logits have the same bits whatever runs beside it, however its prompt is cut, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace import _core
from headrace.plan import fuse
from tests.native.builders import BLOCK_TOKENS, batch, hybrid, logits_of, model

TOKENS = np.random.default_rng(0).integers(0, 67, 100)
LONG = np.random.default_rng(3).integers(0, 67, 2300)  # more than two spans of attention
KINDS = ["F32", "BF16", "Q8_0", "Q4_0", "Q6_K", "Q5_1", "Q3_K", "Q4_K"]
WIDE = {"hidden": 256, "inner": 256, "head_dim": 64}


def build(isa: str, kind: str, threads: int = 1, kv: str = "fp16") -> _core.Model:
    plan, weights = hybrid(np.random.default_rng(1), kind, **WIDE)
    return model(fuse(plan), weights, isa=isa, threads=threads, kv=kv, blocks=200)


@pytest.fixture
def alone(isa: str, kind: str) -> NDArray[np.float32]:
    """Token by token: what decoding computes."""
    return logits_of(build(isa, kind), TOKENS, [1] * len(TOKENS))


@pytest.mark.parametrize("kind", KINDS)
def test_one_prefill_equals_chunks_and_single_tokens(isa: str, kind: str, alone: NDArray[np.float32]) -> None:
    native = build(isa, kind)
    for chunks in ([100], [64, 36], [16, 48, 1, 35], [63, 2, 34, 1], [3] * 33 + [1]):
        np.testing.assert_array_equal(logits_of(native, TOKENS, chunks), alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(isa: str, kind: str, threads: int, alone: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(logits_of(build(isa, kind, threads), TOKENS, [99, 1]), alone)


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_change_nothing(isa: str, kind: str, alone: NDArray[np.float32]) -> None:
    """Our sequence, first, in the middle and last, beside 1 to 17 others of other lengths at other positions."""
    rng = np.random.default_rng(2)
    native = build(isa, kind, threads=2)
    for others in (1, 2, 3, 5, 8, 17):
        place = int(rng.integers(0, others + 1))
        lengths = rng.integers(1, 12, others)
        for chunk in (slice(0, 37), slice(37, 38), slice(38, 70)):
            found = native.logits(beside(rng, TOKENS[chunk], chunk.start, place, lengths))
            np.testing.assert_array_equal(found, alone[chunk])


def beside(rng: np.random.Generator, tokens: Any, position: int, place: int, lengths: Any) -> Any:
    """`tokens` as sequence number `place` in blocks 0 .. 9; the others start anew. Only our rows are wanted."""
    sequences = [rng.integers(0, 67, n) for n in lengths]
    blocks = [range(10 + 3 * i, 13 + 3 * i) for i in range(len(lengths))]
    sequences.insert(place, tokens)
    blocks.insert(place, range(10))
    before = sum(map(len, sequences[:place]))
    positions = [0] * len(sequences)
    positions[place] = position
    return batch(sequences, positions, blocks, rows=range(before, before + len(tokens)))


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_wanted_rows_change_nothing(isa: str, kind: str, alone: NDArray[np.float32]) -> None:
    native = build(isa, kind)
    native.logits(batch([TOKENS[:60]], blocks=[range(10)], rows=[]))
    found = native.logits(batch([TOKENS[60:]], [60], [range(10)], rows=[0, 7, 39]))
    np.testing.assert_array_equal(found, alone[[60, 67, 99]])


def test_blocks_hold_all_that_a_sequence_remembers(isa: str) -> None:
    """A second sequence goes on from a shared prefix, at every border of blocks, and from blocks in any order."""
    native = build(isa, "Q8_0")
    owned, tokens = [5, 3, 11, 2], LONG[:220]
    expected = native.logits(batch([tokens], blocks=[owned]))
    for border in range(BLOCK_TOKENS, len(tokens), BLOCK_TOKENS):
        fork = [*owned[: border // BLOCK_TOKENS], *range(100, 104)]
        found = native.logits(batch([tokens[border:]], [border], [fork]))
        np.testing.assert_array_equal(found, expected[border:])


def test_two_sequences_may_read_the_same_prefix(isa: str) -> None:
    native = build(isa, "Q4_0", threads=2)
    prefix, border = [0, 1], 2 * BLOCK_TOKENS
    tokens = LONG[: border + 20]
    expected = native.logits(batch([tokens], blocks=[[*prefix, 2]]))[border:]
    both = native.logits(batch([tokens[border:]] * 2, [border] * 2, [[*prefix, 4], [*prefix, 6]]))
    np.testing.assert_array_equal(both[:20], expected)
    np.testing.assert_array_equal(both[20:], expected)


@pytest.mark.parametrize("kv", ["fp16", "int8"])
def test_long_contexts_are_the_same_however_threads_share_them(isa: str, kv: str) -> None:
    """Beyond a span of 1,024 positions: threads that take whole contexts, that share one, a prefill, a token."""
    plan, weights = hybrid(np.random.default_rng(4), "Q8_0")

    def logits(threads: int, chunks: list[int]) -> NDArray[np.float32]:
        return logits_of(model(plan, weights, isa=isa, threads=threads, kv=kv), LONG, chunks)

    expected = logits(1, [1200, *[1] * 5, 1095])
    for threads, chunks in ((1, [2300]), (2, [1020, 1279, 1]), (3, [1200, *[1] * 5, 1000, 94, 1]), (5, [2048, 251, 1])):
        np.testing.assert_array_equal(logits(threads, chunks), expected)


@pytest.mark.parametrize("kv", ["int8", "fp32"])
def test_other_caches_decode_as_they_prefill(isa: str, kv: str) -> None:
    alone = logits_of(build(isa, "Q4_0", kv=kv), TOKENS, [1] * len(TOKENS))
    for chunks in ([100], [63, 2, 35]):
        np.testing.assert_array_equal(logits_of(build(isa, "Q4_0", 2, kv), TOKENS, chunks), alone)


def test_unused_blocks_cost_no_memory() -> None:
    plan, weights = hybrid(np.random.default_rng(1))
    native = model(plan, weights, blocks=1 << 22)  # far beyond this machine's memory
    native.logits(batch([[1, 2, 3]], blocks=[[(1 << 22) - 1]]))
