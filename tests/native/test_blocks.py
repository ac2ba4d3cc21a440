"""Cache blocks can be copied, taken out and put back: a block is all that a sequence remembers of its tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from headrace import _core
from headrace.plan import Plan
from tests.native.builders import BLOCKS, batch, float_tensor, hybrid, model, tensors

TOKENS = np.random.default_rng(0).integers(0, 67, 90)


def build(**options: Any) -> _core.Model:
    plan, weights = hybrid(np.random.default_rng(1), taps=4)
    return model(plan, weights, **options)


@pytest.mark.parametrize("kv", ["fp16", "int8", "fp32"])
@pytest.mark.parametrize("split", [1, 40, 64, 70])
def test_a_sequence_goes_on_from_copies(kv: str, split: int) -> None:
    """By `copy_block`, and in another model of the same plan by `read_block` and `write_block`."""
    native, other = build(kv=kv), build(kv=kv, threads=2, blocks=9)
    expected = native.logits(batch([TOKENS], blocks=[[0, 1]]))
    native.logits(batch([TOKENS[:split]], blocks=[[10, 11]], rows=[]))
    for source, target in ((10, 7), (11, 5)):
        native.copy_block(source, target)
        data = native.read_block(source)
        assert data.shape == (native.block_bytes,)
        assert data.dtype == np.uint8
        assert data.tobytes() == native.read_block(target).tobytes()
        other.write_block(target, data.tobytes() if target == 5 else data)
    for one in (native, other):
        found = one.logits(batch([TOKENS[split:]], [split], [[7, 5]]))
        np.testing.assert_array_equal(found, expected[split:])


def test_copies_do_not_follow_each_other() -> None:
    native = build()
    native.logits(batch([TOKENS[:30]], blocks=[[0, 1]], rows=[]))
    before = native.read_block(0)
    native.copy_block(0, 3)
    native.logits(batch([TOKENS[30:]], [30], [[3, 4]], rows=[]))
    assert native.read_block(0).tobytes() == before.tobytes() != native.read_block(3).tobytes()
    native.copy_block(0, 0)
    assert native.read_block(0).tobytes() == before.tobytes()


def test_what_nobody_wrote_is_zero() -> None:
    assert not build().read_block(BLOCKS - 1).any()


def test_bytes_of_a_block() -> None:
    """Keys and values of two layers, and three inputs of two convolutions (hybrid's default shape)."""
    keys_and_values = 2 * 2 * 2 * 16 * 64  # layers, kinds, heads, dimensions, positions
    inputs = 2 * 3 * 64 * 4
    for kv, size in (("fp16", 2), ("fp32", 4)):
        assert build(kv=kv).block_bytes == keys_and_values * size + inputs
    assert build(kv="int8").block_bytes == keys_and_values + keys_and_values // 16 * 4 + inputs


def test_a_plan_without_memory_has_empty_blocks() -> None:
    zeros = float_tensor("F32", np.zeros((3, 2)))
    plan = Plan()
    plan.add("linear", plan.add("select", plan.add("embed", weights=["embed"])), weights=["embed"])
    native = model(plan, tensors({"embed": zeros}), draft_slots=1, max_rewind=1)
    native.step(batch([[1, 2]], slots=0))
    native.copy_block(0, 1)
    native.write_block(1, native.read_block(0))
    assert native.block_bytes == 0


@pytest.mark.parametrize("block", [-1, BLOCKS, 2**40])
def test_a_block_that_does_not_exist(block: int) -> None:
    native = build()
    calls = (
        lambda: native.copy_block(block, 0),
        lambda: native.copy_block(0, block),
        lambda: native.read_block(block),
        lambda: native.write_block(block, np.zeros(native.block_bytes, np.uint8)),
    )
    for call in calls:
        with pytest.raises(ValueError, match=f"cache block {block} does not exist: expected 0 to 63"):
            call()


def test_bytes_that_are_no_block() -> None:
    native = build()
    size = native.block_bytes
    for length in (0, size - 1, size + 1):
        with pytest.raises(ValueError, match=f"a cache block has {size} bytes, but {length} were given"):
            native.write_block(0, np.zeros(length, np.uint8))
    for data in (
        np.zeros(size // 4, np.float32),
        np.zeros((1, size), np.uint8),
        np.zeros(2 * size, np.uint8)[::2],
        "block",
    ):
        with pytest.raises(ValueError, match="must be a contiguous one-dimensional uint8 array"):
            native.write_block(0, data)  # type: ignore[arg-type]


def test_copies_and_steps_take_turns() -> None:
    """A block that is read while its sequence is stepped is one of before or of after the step, never of between."""
    native = build(threads=2)
    native.logits(batch([TOKENS[:40]], blocks=[[0, 1]], rows=[]))
    before = native.read_block(0).tobytes()
    native.copy_block(0, 2)
    native.logits(batch([TOKENS[40:60]], [40], [[0, 1]], rows=[]))
    after = native.read_block(0).tobytes()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            native.copy_block(2, 0)
            stepped = pool.submit(native.logits, batch([TOKENS[40:60]], [40], [[0, 1]], rows=[]))
            while not stepped.done():
                assert native.read_block(0).tobytes() in (before, after)
            stepped.result()
            assert native.read_block(0).tobytes() == after
