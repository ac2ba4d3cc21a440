"""A core without arithmetic: it remembers what it was given, block by block, and answers from nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.engine.batch import Batch, Stepped

VOCABULARY = 1000
BLOCK = 4


def plus_one(context: list[int]) -> int:
    return (context[-1] + 1) % VOCABULARY


def of_all(context: list[int]) -> int:
    """Depends on every token before it: a wrong block anywhere gives another answer."""
    number = len(context)
    for token in context:
        number = (number * 31 + token + 7) % 1_000_003
    return number % VOCABULARY


def logprob(token: Any, length: Any) -> Any:
    """Stands for the log-probability of a token after so many others."""
    return -(token % 10) - length / 100


class BlockCore:
    """The next token of a context is `rule(context)`, where the context is what its blocks hold.

    As in the native core, a block keeps one state, that after the last token written into it: a step must begin right
    there, and blocks that are written belong to one sequence alone.
    """

    def __init__(self, rule: Callable[[list[int]], int] = plus_one) -> None:
        self.rule = rule
        self.batches: list[Batch] = []
        self.tokens: dict[tuple[int, int], int] = {}  # block and place in it -> token
        self.state: dict[int, int] = {}  # block -> position after the last token written there
        self.drafted: dict[int, int] = {}  # slot -> position after its last step
        self.gate = threading.Event()
        self.gate.set()

    def step(self, batch: Batch) -> Any:
        self.gate.wait(10)
        contexts = self._contexts(batch)
        best = np.array([self.rule(context) for context in contexts], np.int32)
        ids = np.where(batch.targets < 0, best, batch.targets).astype(np.int32)
        experts = np.stack([batch.tokens, batch.tokens / 2], axis=1)[:, None].astype(np.float32)  # of each token
        if (batch.top_logprobs < 0).all():
            return Stepped(ids, experts=experts if batch.experts else None)
        logprobs = logprob(ids, np.array([len(context) for context in contexts]))
        logprobs = np.where(batch.top_logprobs < 0, np.nan, logprobs).astype(np.float32)
        top = np.where(batch.top_logprobs > 0, best, -1)[:, None].astype(np.int32)
        return Stepped(ids, logprobs, top, np.zeros(top.shape, np.float32), experts if batch.experts else None)

    def logits(self, batch: Batch) -> Any:
        contexts = self._contexts(batch)
        return np.eye(VOCABULARY, dtype=np.float32)[[context[-1] for context in contexts]]

    def copy_block(self, source: int, target: int) -> None:
        for place in range(BLOCK):
            if (source, place) in self.tokens:
                self.tokens[target, place] = self.tokens[source, place]
        self.state[target] = self.state[source]

    block_bytes = 4 * (BLOCK + 1)

    def read_block(self, block: int) -> Any:
        tokens = [self.tokens.get((block, place), -1) for place in range(BLOCK)]
        return np.array([*tokens, self.state[block]], np.int32).view(np.uint8)

    def write_block(self, block: int, data: Any) -> None:
        *tokens, self.state[block] = data.view(np.int32).tolist()
        for place, token in enumerate(tokens):
            self.tokens[block, place] = token

    def _contexts(self, batch: Batch) -> list[list[int]]:
        """What stands up to each wanted row, the row included."""
        self.batches.append(batch)
        assert len(batch.rows) == len(batch.temperature) == len(batch.seed)
        users = batch.blocks.tolist()
        contexts: dict[int, list[int]] = {}
        for s in range(len(batch.positions)):
            blocks = batch.blocks[batch.block_starts[s] : batch.block_starts[s + 1]].tolist()
            first, start, end = int(batch.positions[s]), int(batch.starts[s]), int(batch.starts[s + 1])
            slot, rewind = int(batch.slots[s]), int(batch.rewinds[s])
            if rewind:
                assert self.drafted[slot] == first + rewind, "the slot ends with another token"
            elif first:
                assert self.state[blocks[(first - 1) // BLOCK]] == first, "the state is that of another token"
            if slot >= 0:
                self.drafted[slot] = first + end - start
            for row in range(start, end):
                position = first + row - start
                block = blocks[position // BLOCK]
                assert users.count(block) == 1, "a block that is written is in use elsewhere"
                self.tokens[block, position % BLOCK] = int(batch.tokens[row])
                self.state[block] = position + 1
                contexts[row] = [self.tokens[blocks[p // BLOCK], p % BLOCK] for p in range(position + 1)]
        return [contexts[row] for row in batch.rows.tolist()]
