"""Which cache blocks are free. The blocks themselves (keys, values, convolution inputs) live in the native core."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class BlockPool:
    """Hands out `count` blocks of `block_tokens` tokens. A block's memory is touched when it is first written."""

    count: int
    block_tokens: int
    free: list[int] = field(default_factory=list)
    promised: int = 0  # blocks that admitted sequences may still ask for

    def __post_init__(self) -> None:
        self.free = list(reversed(range(self.count)))  # low numbers first: fewer pages are ever touched

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def promise(self, tokens: int) -> bool:
        """Sets aside what a sequence of up to `tokens` tokens can need, so that no sequence starves half way."""
        needed = self.blocks_for(tokens)
        if needed > len(self.free) - self.promised:
            return False
        self.promised += needed
        return True

    def extend(self, blocks: list[int], tokens: int) -> None:
        """Adds promised blocks to a sequence's list until it covers `tokens` tokens."""
        for _ in range(self.blocks_for(tokens) - len(blocks)):
            blocks.append(self.free.pop())
            self.promised -= 1

    def release(self, blocks: Iterable[int], tokens: int) -> None:
        """Takes back a sequence's blocks, and what was promised to it beyond them (it was promised `tokens`)."""
        returned = list(blocks)
        self.promised -= self.blocks_for(tokens) - len(returned)
        self.free.extend(reversed(returned))
