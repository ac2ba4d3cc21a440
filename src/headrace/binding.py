"""From what was found on disk to native models that run."""

from __future__ import annotations

from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from headrace.checkpoint import Checkpoint
from headrace.engine import core, packed
from headrace.engine.cache import BlockCache
from headrace.engine.draft_model import REWIND, DraftModel, shared_ids
from headrace.engine.packed_file import Progress
from headrace.errors import FileInvalid
from headrace.weights.mapped import check_whole, files_behind
from headrace.weights.tensor import Weights


class Bound(NamedTuple):
    """A native model, and the files that it reads its weights from: the model's own, or a packed copy."""

    native: Any  # _core.Model
    files: tuple[mmap, ...]


def bind(
    source: Checkpoint,
    *,
    blocks: int,
    threads: int,
    kv: str | None,
    slots: int,
    max_rewind: int,
    progress: Progress,
) -> Bound:
    """Packs the weights if need be, and binds them. `slots` sequences can take back `max_rewind` tokens of a step.

    Raises FileInvalid.
    """
    check_whole(source.path, _files(source.weights))
    weights = packed.in_panels(source.path, source.weights, progress)
    try:
        native = core.build(
            source.plan,
            weights,
            vocab_size=source.backbone.vocab_size,
            blocks=blocks,
            threads=threads,
            kv=core.kv_type(source.weights, kv),
            draft_slots=slots,
            max_rewind=max_rewind,
        )
    except ValueError as error:  # weights whose shapes do not fit each other
        raise FileInvalid(source.path, str(error)) from None
    return Bound(native, _files(weights))


def bind_draft(small: Checkpoint, target: Checkpoint, *, blocks: int, slots: int, **options: Any) -> DraftModel:
    """A small model that guesses what the target says; the options are those of `bind`.

    Raises FileInvalid, and Unsupported where its tokens are others.
    """
    shared, rows = shared_ids(target.tokenizer, small.tokenizer, small.name), small.backbone.vocab_size
    native, files = bind(small, blocks=blocks, slots=slots, max_rewind=REWIND, **options)
    return DraftModel(
        native,
        BlockCache(blocks, core.BLOCK_TOKENS),
        list(range(slots)),
        vocab_size=rows,
        window=small.backbone.max_position_embeddings,
        barred=np.array([id_ for id_ in range(rows) if id_ not in shared], np.int32),
        end_ids=target.end_ids,
        check=lambda: check_whole(small.path, files),
    )


def _files(weights: Weights) -> tuple[mmap, ...]:
    return files_behind(tensor.data for tensors in weights.values() for tensor in tensors)
