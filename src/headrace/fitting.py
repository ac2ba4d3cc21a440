"""What would fit where a model does not: a smaller window, other weights, another model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace.checkpoint import Checkpoint
from headrace.engine.core import BLOCK_TOKENS
from headrace.library import family
from headrace.machine import format_bytes
from headrace.weights.quantisation import layout_of, nbytes
from headrace.weights.tensor import Tensor

QUANTISATIONS: Final = ("Q8_0", "Q6_K", "Q4_0")  # of published files whose matrices are all of one type, best first
FLOATS: Final = (".gate", ".conv")  # weights of the plan that are F32 in every file: routers, taps of convolutions


def advice(sources: Sequence[Checkpoint], *, weights: int, block: int, blocks: int, room_bytes: int) -> str:
    """What to do about models whose `weights`, in bytes, and so many `blocks` of a cache do not fit into the room."""
    if (left := room_bytes - weights) >= block:
        return f"ask for a window of at most {left // block * BLOCK_TOKENS} tokens with --num-ctx"
    for quant in QUANTISATIONS:
        size = sum(quantised_bytes(source, quant) for source in sources)
        if size < weights and size + blocks * block <= room_bytes:
            return f"as {quant} it would need {format_bytes(size)} for its weights, and fit"
    if (other := largest_of_the_family(room_bytes)) is not None:
        return f"no quantisation of it would fit, but {other} would"
    return "take a smaller model"


def quantised_bytes(source: Checkpoint, quant: str) -> int:
    """Of the weights, were every matrix of this type whose rows are whole blocks of it."""
    return sum(_bytes(name, tensor, quant) for name, tensors in source.weights.items() for tensor in tensors)


def _bytes(name: str, tensor: Tensor, quant: str) -> int:
    if len(tensor.shape) < 2 or name.endswith(FLOATS):
        return nbytes("F32", tensor.shape)
    return nbytes(quant, tensor.shape) if tensor.shape[-1] % layout_of(quant).block == 0 else tensor.data.size


def largest_of_the_family(room_bytes: int) -> str | None:
    """A published model that fits with a window of 4,096 tokens, by its short name."""
    sizes = {str(one.name): one.memory_bytes[family.WINDOWS[0]] for one in family.available()}
    return max((name for name in sizes if sizes[name] <= room_bytes), key=sizes.__getitem__, default=None)
