"""One step's work as flat arrays: all that goes down to the native core, known before the step begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from headrace.engine.request import Sequence

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


def no_ids() -> Int32:
    return np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens of one sequence in a step: `count` of them from its first uncomputed one. `rows` need logits.

    `mask` says which tokens the row may become; None is any but those `barred`, which are never chosen.
    """

    sequence: Sequence
    count: int
    rows: range  # relative to the part's first token
    mask: NDArray[np.uint32] | None = None
    barred: Int32 = field(default_factory=no_ids)


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

    @classmethod
    def of(cls, parts: SequenceOf[Part]) -> Batch:
        starts = _offsets(part.count for part in parts)
        sampled = [part.sequence for part in parts for _ in part.rows]
        parameters = [sequence.parameters for sequence in sampled]
        histories = [_history(sequence) for sequence in sampled]
        biases = [_bias(part) for part in parts for _ in part.rows]
        masks = [part.mask for part in parts for _ in part.rows]
        masked = [mask for mask in masks if mask is not None]
        return cls(
            tokens=_join(
                [p.sequence.ids[p.sequence.computed : p.sequence.computed + p.count] for p in parts], np.int32
            ),
            starts=starts,
            positions=np.array([part.sequence.computed for part in parts], np.int32),
            blocks=_join([part.sequence.blocks for part in parts], np.int32),
            block_starts=_offsets(len(part.sequence.blocks) for part in parts),
            rows=_join([start + np.array(part.rows) for start, part in zip(starts, parts, strict=False)], np.int32),
            temperature=np.array([p.temperature for p in parameters], np.float32),
            top_k=np.array([p.top_k for p in parameters], np.int32),
            top_p=np.array([p.top_p for p in parameters], np.float32),
            min_p=np.array([p.min_p for p in parameters], np.float32),
            repeat_penalty=np.array([p.repeat_penalty for p in parameters], np.float32),
            presence_penalty=np.array([p.presence_penalty for p in parameters], np.float32),
            frequency_penalty=np.array([p.frequency_penalty for p in parameters], np.float32),
            seed=np.array([sequence.seed for sequence in sampled], np.uint64),
            history=_join(histories, np.int32),
            history_starts=_offsets(len(history) for history in histories),
            bias_ids=_join([ids for ids, _ in biases], np.int32),
            bias_values=_join([values for _, values in biases], np.float32),
            bias_starts=_offsets(len(ids) for ids, _ in biases),
            mask=np.stack(masked) if masked else np.zeros((0, 0), np.uint32),
            mask_rows=np.array(
                [-1 if mask is None else place - 1 for mask, place in zip(masks, _counted(masks), strict=True)],
                np.int32,
            ),
        )


def _counted(masks: Iterable[Any]) -> Iterator[int]:
    """How many masks there are up to and including each place."""
    return accumulate(mask is not None for mask in masks)


def _bias(part: Part) -> tuple[Int32, Float32]:
    """What is added to logits: by request, and minus infinity, which nothing makes up for."""
    asked = part.sequence.parameters.logit_bias
    ids, values = list(asked), list(asked.values())
    return (
        np.concatenate([np.array(ids, np.int32), part.barred]),
        np.concatenate([np.array(values, np.float32), np.full(len(part.barred), -np.inf, np.float32)]),
    )


def _history(sequence: Sequence) -> Int32:
    """The tokens that the penalties look at; none when no penalty is on, to save the copy."""
    p = sequence.parameters
    if p.repeat_penalty == 1 and not p.presence_penalty and not p.frequency_penalty:
        return sequence.ids[:0]
    first = 0 if p.repeat_last_n < 0 else max(0, sequence.length - p.repeat_last_n)
    return sequence.ids[first : sequence.length]


def _offsets(counts: Iterable[int]) -> Int32:
    return np.array([0, *accumulate(counts)], np.int32)


def _join(pieces: SequenceOf[Any], dtype: DTypeLike) -> NDArray[Any]:
    return np.concatenate([np.asarray(piece, dtype) for piece in pieces] or [np.zeros(0, dtype)])
