"""Which block of the native core holds what: an exact prefix cache over blocks of tokens.

The blocks themselves (keys, values, and the convolution's inputs as of their last token) live in the native core. A
full block is found again by its tokens and all that stand before them, so it can be shared by any number of sequences,
and stays when they have ended, until its memory is needed for something else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


@dataclass(eq=False, slots=True)
class Block:
    """A full block in the tree: its tokens follow those of its parent, and so on up to a root, which holds none.

    Whoever uses a block uses all blocks above it, so a block that nobody uses has nobody below it either.
    """

    number: int
    tokens: bytes  # of int32 ids
    parent: Block | None
    children: dict[bytes, Block] = field(default_factory=dict)
    users: int = 0


@dataclass(slots=True)
class BlockCache:
    """Owns `count` blocks of `block_tokens` tokens. A block's memory is touched when it is first written.

    A block is free, or private to a sequence that still writes it, or in the tree. Of those in the tree that nobody
    uses, the least recently used one is given up first when no block is free. `adapter` names the weights that computed
    a block: the same tokens give other keys and values under another adapter.
    """

    count: int
    block_tokens: int
    free: list[int] = field(default_factory=list)
    roots: dict[str, Block] = field(default_factory=dict)
    idle: OrderedDict[Block, None] = field(default_factory=OrderedDict)  # least recently used first
    evicted: int = 0  # blocks given up so far

    def __post_init__(self) -> None:
        self.free = list(reversed(range(self.count)))  # low numbers first: fewer pages are ever touched

    @property
    def capacity(self) -> int:
        """Tokens that one sequence can have at most."""
        return self.count * self.block_tokens

    @property
    def available(self) -> int:
        """Blocks that can be had: free ones, and those that nobody uses."""
        return len(self.free) + len(self.idle)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def match(self, ids: Ids, adapter: str = "") -> list[Block]:
        """The longest known chain of full blocks that `ids` begin with. Nobody holds them yet."""
        found, block = list[Block](), self.roots.get(adapter)
        for first in range(0, len(ids) - self.block_tokens + 1, self.block_tokens):
            block = block and block.children.get(ids[first : first + self.block_tokens].tobytes())
            if block is None:
                break
            found.append(block)
        return found

    def hold(self, chain: Iterable[Block]) -> None:
        """Counts one more user of each."""
        for block in chain:
            block.users += 1
            self.idle.pop(block, None)

    def release(self, chain: SequenceOf[Block]) -> None:
        """Counts one user less of each; those without any become the most recently used."""
        for block in reversed(chain):  # leaves are given up before their parents
            block.users -= 1
            if not block.users:
                self.idle[block] = None

    def take(self, count: int) -> list[int]:
        """`count` blocks to write, at most as many as are `available`."""
        while len(self.free) < count:
            self._evict()
        return [self.free.pop() for _ in range(count)]

    def give_back(self, numbers: SequenceOf[int]) -> None:
        """Takes back blocks that are not in the tree."""
        self.free.extend(reversed(numbers))

    def keep(self, number: int, tokens: Ids, parent: Block | None, adapter: str = "") -> Block:
        """Puts a full block behind its parent, None for the first of a context, and holds it for who wrote it.

        Returns the block of the tree: another one, if somebody had computed the same before; `number` is then free.
        """
        if parent is None:
            parent = self.roots.setdefault(adapter, Block(-1, b"", None))
        key = tokens.tobytes()
        block = parent.children.get(key)
        if block is None:
            block = parent.children[key] = Block(number, key, parent)
        else:
            self.free.append(number)
        self.hold([block])
        return block

    def clear(self) -> None:
        """Gives up all that nobody uses."""
        while self.idle:
            self._evict()

    def _evict(self) -> None:
        block, _ = self.idle.popitem(last=False)
        assert block.parent is not None  # roots are never idle
        del block.parent.children[block.tokens]
        self.free.append(block.number)
        self.evicted += 1
