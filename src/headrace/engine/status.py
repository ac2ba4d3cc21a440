"""What an engine says of itself to whoever asks, at any time: nobody waits for it, and it waits for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Counts(NamedTuple):
    """Of a scheduler at one moment: sequences, and blocks of its cache."""

    running: int
    waiting: int
    blocks: int  # in all
    used: int  # that hold something
    kept: int  # that can be found again
    evicted: int
    preempted: int


@dataclass(frozen=True, slots=True)
class CacheState:
    """The prefix cache at one moment."""

    tokens: int  # that can be found again
    size_bytes: int  # of the blocks that hold something
    capacity_bytes: int
    evicted_blocks: int  # given up so far for want of memory
    preempted: int  # how often a running sequence was put back into the queue

    @classmethod
    def of(cls, counts: Counts, block_tokens: int, block_bytes: int) -> CacheState:
        return cls(
            counts.kept * block_tokens,
            counts.used * block_bytes,
            counts.blocks * block_bytes,
            counts.evicted,
            counts.preempted,
        )


@dataclass(frozen=True, slots=True)
class Status:
    """A model as of its last step, or of the one that it is doing."""

    running: int  # sequences that are worked on together
    waiting: int  # those that there is no place for yet
    cache: CacheState
