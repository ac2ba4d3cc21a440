"""One step's work as flat arrays: all that goes down to the native core, known before the step begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.engine.request import Float32, Int32, Sequence


def no_ids() -> Int32:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens of one sequence in a step: `count` of them from its first uncomputed one. `rows` need logits.

    `masks` say which tokens each row may become; None is any but those `barred`, which are never chosen. `targets`
    names for each row the token that it is about (-1: one is sampled). Empty, they are the same for all rows.

    The last tokens may be a `draft`. A step that may be taken back in part names a draft `slot` of the core, and the
    step after it says with `rewind` how many of its tokens do not count.
    """

    sequence: Sequence
    count: int
    rows: range  # relative to the part's first token
    masks: SequenceOf[NDArray[np.uint32] | None] = ()
    barred: Int32 = field(default_factory=no_ids)
    slot: int = -1  # none
    rewind: int = 0
    draft: SequenceOf[int] = ()
    targets: SequenceOf[int] = ()
    top_logprobs: int = -1  # how many likely tokens are wanted beside the row's own; -1: no log-probabilities
    experts: bool = False  # whether the routing of the step is wanted

    @property
    def tokens(self) -> Int32:
        return self.sequence.ids[self.sequence.computed : self.sequence.computed + self.count]


@dataclass(frozen=True, slots=True)
class Batch:
    """T tokens of S sequences, R of whose logits are wanted. All arrays are C-contiguous; `_starts` are offsets.

    Sequence s owns tokens[starts[s]:starts[s + 1]], the first of which stands at positions[s], and the cache blocks
    blocks[block_starts[s]:block_starts[s + 1]]. The columns from `temperature` on have one entry for each row.
    """

    tokens: Int32  # [T]
    starts: Int32  # [S + 1]
    positions: Int32  # [S]
    blocks: Int32
    block_starts: Int32  # [S + 1]
    slots: Int32  # [S] draft slots, or -1
    rewinds: Int32  # [S] how many tokens of the slot's last step do not count; positions[s] stands before them
    rows: Int32  # [R] indices into tokens, ascending
    temperature: Float32
    top_k: Int32
    top_p: Float32
    min_p: Float32
    repeat_penalty: Float32
    presence_penalty: Float32
    frequency_penalty: Float32
    seed: NDArray[np.uint64]
    history: Int32  # the tokens that the penalties look at
    history_starts: Int32  # [R + 1]
    bias_ids: Int32
    bias_values: Float32
    bias_starts: Int32  # [R + 1]
    mask: NDArray[np.uint32]  # [M, ceil(V / 32)], bit t % 32 of word t // 32 allows token t
    mask_rows: Int32  # [R] row of `mask`, or -1
    targets: Int32  # [R] the token that the row is about, or -1: one is sampled
    top_logprobs: Int32  # [R] likely tokens that are wanted beside the row's own, or -1: no log-probabilities
    experts: bool  # whether the routing is wanted

    @classmethod
    def of(cls, parts: SequenceOf[Part]) -> Batch:
        """Python's share of every step, so it is written for speed: lists, and one array from each."""
        sequences = [part.sequence for part in parts]
        starts = [0, *accumulate(part.count for part in parts)]
        rows = [(part, row) for part in parts for row in part.rows]
        sampled = [part.sequence for part, _ in rows]
        parameters = [sequence.parameters for sequence in sampled]
        histories = [_history(part.sequence, part.sequence.computed + row + 1) for part, row in rows]
        biases = [part.sequence.bias(part.barred) for part, _ in rows]
        masks = [mask for part in parts for mask in part.masks or [None] * len(part.rows)]
        masked = [mask for mask in masks if mask is not None]
        return cls(
            tokens=_join([part.tokens for part in parts]),
            starts=np.array(starts, np.int32),
            positions=np.array([sequence.computed for sequence in sequences], np.int32),
            blocks=np.fromiter(chain.from_iterable(sequence.blocks for sequence in sequences), np.int32),
            block_starts=_offsets(len(sequence.blocks) for sequence in sequences),
            slots=np.array([part.slot for part in parts], np.int32),
            rewinds=np.array([part.rewind for part in parts], np.int32),
            rows=np.array([first + row for first, p in zip(starts, parts, strict=False) for row in p.rows], np.int32),
            temperature=np.array([p.temperature for p in parameters], np.float32),
            top_k=np.array([p.top_k for p in parameters], np.int32),
            top_p=np.array([p.top_p for p in parameters], np.float32),
            min_p=np.array([p.min_p for p in parameters], np.float32),
            repeat_penalty=np.array([p.repeat_penalty for p in parameters], np.float32),
            presence_penalty=np.array([p.presence_penalty for p in parameters], np.float32),
            frequency_penalty=np.array([p.frequency_penalty for p in parameters], np.float32),
            seed=np.array([sequence.seed for sequence in sampled], np.uint64),
            history=_join(histories),
            history_starts=_offsets(map(len, histories)),
            bias_ids=_join([bias.ids for bias in biases]),
            bias_values=np.concatenate([bias.values for bias in biases] or [np.zeros(0, np.float32)]),
            bias_starts=_offsets(len(bias.ids) for bias in biases),
            mask=np.stack(masked) if masked else np.zeros((0, 0), np.uint32),
            mask_rows=np.array(
                [-1 if mask is None else place - 1 for mask, place in zip(masks, _counted(masks), strict=True)],
                np.int32,
            ),
            targets=np.array([token for part in parts for token in part.targets or [-1] * len(part.rows)], np.int32),
            top_logprobs=np.array([part.top_logprobs for part, _ in rows], np.int32),
            experts=any(part.experts for part in parts),
        )


class Stepped(NamedTuple):
    """What a step gives: R rows, T tokens, N the largest `top_logprobs` of the batch, L routers of K experts each.

    Log-probabilities are of the model's own distribution: nothing that sampling does to the logits is in them.
    """

    ids: Int32  # [R] what was sampled, or the row's target
    logprobs: Float32 | None = None  # [R] of `ids`; NaN for rows that want none. None, like the next two: no row does
    top_ids: Int32 | None = None  # [R, N] the most likely tokens, best first; -1 beyond what the row wants
    top_logprobs: Float32 | None = None  # [R, N] and -infinity there
    experts: Float32 | None = None  # [T, L, 2 K] experts' numbers, best first, then their weights; None: not wanted


def _counted(masks: Iterable[Any]) -> Iterator[int]:
    """How many masks there are up to and including each place."""
    return accumulate(mask is not None for mask in masks)


def _history(sequence: Sequence, end: int) -> Int32:
    """The tokens before position `end` that the penalties look at; none when no penalty is on, to save the copy."""
    p = sequence.parameters
    if p.repeat_penalty == 1 and not p.presence_penalty and not p.frequency_penalty:
        return sequence.ids[:0]
    first = 0 if p.repeat_last_n < 0 else max(0, end - p.repeat_last_n)
    return sequence.ids[first:end]


def _offsets(counts: Iterable[int]) -> Int32:
    return np.array([0, *accumulate(counts)], np.int32)


def _join(pieces: SequenceOf[Int32]) -> Int32:
    return np.concatenate(pieces or [no_ids()])
