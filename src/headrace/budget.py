"""How much memory a model may take: its weights, and beside them a cache that grows as it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace import fitting
from headrace.checkpoint import Checkpoint
from headrace.engine.core import BLOCK_TOKENS
from headrace.errors import RequestInvalid
from headrace.machine import format_bytes
from headrace.summary import block_bytes, memory_bytes

SMALL_WINDOW = 4096  # tokens: a model is not loaded where memory holds less than this, or than its whole window
CACHED_WINDOWS = 16  # full windows that the cache holds at most, unless it is told a size
MOST_BLOCKS = 2**24  # of a cache; memory runs out long before


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes, and its draft model if it has one: bytes of weights, and of each block of their caches.

    `sources` are these models: what else would fit is worked out from them.
    """

    name: str
    weights: int
    block: int
    sources: Sequence[Checkpoint] = ()

    @classmethod
    def of(cls, source: Checkpoint, kv: str | None, draft: Checkpoint | None = None) -> Need:
        """`kv` is what is asked for: see `headrace.engine.core.kv_type`."""
        sources = (source,) if draft is None else (source, draft)
        return cls(
            source.name if draft is None else f"{source.name} with the draft model {draft.name}",
            sum(memory_bytes(one, 0, kv)["weights"] for one in sources),
            sum(block_bytes(one, kv) for one in sources),
            sources,
        )

    def blocks(
        self,
        num_ctx: int,
        cache_bytes: int | None,
        available: int | None,
        *,
        windows: int = CACHED_WINDOWS,
        most_bytes: int | None = None,
    ) -> int:
        """Blocks of the cache: as many as `cache_bytes` pay for, else as so many windows take.

        Those may take half of what the weights leave of `available` bytes of memory (None: not known), and no more than
        `most_bytes` together with the weights. No block takes memory before it is used, so that a whole window need not
        fit. But a small one must; where it does not, or not all of `cache_bytes`, RequestInvalid says so.
        """
        if cache_bytes is not None:
            return self._paid_for(cache_bytes, available)
        least, window = blocks_for(min(num_ctx, SMALL_WINDOW)), blocks_for(num_ctx)
        most = window * windows
        if most_bytes is not None:
            most = max(least, min(most, (most_bytes - self.weights) // self.block))
        if available is None:
            return most
        if (left := available - self.weights) < least * self.block:
            raise RequestInvalid(
                f"{self._says()} and {format_bytes(least * self.block)} for a window of {min(num_ctx, SMALL_WINDOW)} "
                f"tokens, but this machine has {format_bytes(available)} of memory: {self.smaller(num_ctx, available)}"
            )
        return max(least, min(most, left // 2 // self.block))

    def smaller(self, num_ctx: int, room_bytes: int) -> str:
        """What would fit into this room, where it does not."""
        blocks = blocks_for(min(num_ctx, SMALL_WINDOW))
        return fitting.advice(
            self.sources, weights=self.weights, block=self.block, blocks=blocks, room_bytes=room_bytes
        )

    def claim(self, num_ctx: int, available: int | None, budget_bytes: int | None = None) -> Claim:
        """What it asks of a budget that it may share. Raises RequestInvalid as `blocks` does."""
        one, all_ = (
            self.blocks(num_ctx, None, available, windows=windows, most_bytes=budget_bytes)
            for windows in (1, CACHED_WINDOWS)
        )
        return Claim(self.weights + one * self.block, (all_ - one) * self.block)

    def _paid_for(self, cache_bytes: int, available: int | None) -> int:
        if isinstance(cache_bytes, bool) or not isinstance(cache_bytes, int) or cache_bytes < self.block:
            raise RequestInvalid(
                f"cache_bytes is {cache_bytes!r} but should be a whole number from {self.block} on: a block of "
                f"{BLOCK_TOKENS} tokens takes that much"
            )
        if available is not None and (left := available - self.weights) < cache_bytes:
            raise RequestInvalid(
                f"{self._says()} and may take {format_bytes(cache_bytes)} for its cache, "
                f"but this machine has {format_bytes(available)} of memory: "
                + ("give the cache less with --cache-bytes" if left >= self.block else self.smaller(1, available))
            )
        return min(cache_bytes // self.block, MOST_BLOCKS)

    def _says(self) -> str:
        return f"{self.name} needs {format_bytes(self.weights)} for its weights"


@dataclass(frozen=True, slots=True)
class Claim:
    """Bytes of a model with a cache of one window, or what of that a budget allows; and those that a model alone would
    have more, for a larger cache: see `Need.blocks`.
    """

    least: int
    more: int

    def within(self, size_bytes: int) -> int:
        """So many bytes, as far as they are of use; but no less than it needs."""
        return max(self.least, min(size_bytes, self.least + self.more))

    def beside(self, others: Sequence[Claim], budget_bytes: int, max_models: int | None = None) -> int:
        """Bytes for this model, so that it fits into the budget with any of the `others`, `max_models` together.

        What the budget leaves when each has its least is shared equally, and what one has no use for goes to the
        others. Where it leaves nothing, they have to make room for one another anyway.
        """
        count = len(others) if max_models is None else max_models - 1
        least = sum(sorted((other.least for other in others), reverse=True)[:count])  # of those that want the most
        more = sorted((other.more for other in others), reverse=True)[:count]
        return self.within(self.least + _level([self.more, *more], budget_bytes - self.least - least))


def _level(wishes: Sequence[int], spare: int) -> int:
    """The most that anybody gets, where `spare` is shared equally among those who want so much or less."""
    left, some = max(0, spare), sorted(wishes)
    while some and some[0] < left // len(some):
        left -= some.pop(0)
    return left // len(some) if some else max(wishes)


def blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
