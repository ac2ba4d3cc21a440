"""From a plan and a file's tensors to the native model that runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.errors import CoreMissing, RequestInvalid
from headrace.plan import Plan, Step, fuse
from headrace.weights.quantisation import dequantise
from headrace.weights.tensor import Tensor, Weights

if TYPE_CHECKING:
    from headrace import _core

BLOCK_TOKENS = 64  # measured later, with the prefix cache: memory against the granularity of a hit
KV = {"fp16": 2, "int8": 1, "fp32": 4}  # types of cache, and the bytes of a number
Matrix = tuple[str, int, int, NDArray[np.uint8]]  # type, rows, columns, bytes


def build(
    plan: Plan,
    weights: Weights,
    *,
    vocab_size: int,
    blocks: int,
    threads: int,
    kv: str | None = None,
    draft_slots: int = 0,
    max_rewind: int = 0,
) -> _core.Model:
    """Binds a plan to its weights, in place: the native model keeps views of the tensors, not copies.

    `kv` is how keys and values are kept, as in `kv_type`. `draft_slots` sequences can take back up to `max_rewind`
    tokens of a step. The instruction set is the best one that the machine has, or the one that HEADRACE_ISA names.
    """
    core = load_core()
    model: _core.Model = core.Model(
        [(step.op, step.inputs, step.weights, dict(step.attributes)) for step in fuse(plan).steps],
        {name: [_matrix(tensor) for tensor in tensors] for name, tensors in _prepared(plan, weights)},
        vocab_size=vocab_size,
        block_tokens=BLOCK_TOKENS,
        blocks=blocks,
        kv=kv_type(weights, kv),
        threads=threads,
        isa=chosen_isa(),
        draft_slots=draft_slots,
        max_rewind=max_rewind,
    )
    return model


def chosen_isa() -> str:
    """What HEADRACE_ISA names, or nothing, which means the best. Raises RequestInvalid for what is not there."""
    isa = os.environ.get("HEADRACE_ISA", "")
    if isa and isa not in (known := load_core().isas()):
        raise RequestInvalid(f"HEADRACE_ISA is {isa!r} but this machine has {', '.join(known)}")
    return isa


def kv_type(weights: Weights, asked: str | None = None) -> str:
    """How keys and values are kept: as asked, fp16 (2 bytes a number), int8 (1, and a scale for each head) or fp32 (4).

    By default fp16, but fp32 for a model stored wholly in F32: it is there to be compared. Raises RequestInvalid.
    """
    if asked is not None:
        if asked not in KV:
            raise RequestInvalid(f"kv is {asked!r} but should be one of {', '.join(KV)}")
        return asked
    return "fp32" if all(tensor.type == "F32" for tensors in weights.values() for tensor in tensors) else "fp16"


def load_core() -> ModuleType:
    """The native module. Raises CoreMissing where it is not built or does not load."""
    try:
        return import_module("headrace._core")
    except ImportError as error:
        raise CoreMissing(
            f"the native core of Headrace does not load ({error}): build it with `pip install .` in the project"
        ) from error


def _prepared(plan: Plan, weights: Weights) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """The weights as the core expects them: norms, taps, biases and routers, which are small, in float32."""
    small = {name for step in plan.steps for name in _small(step)}
    for name, tensors in weights.items():
        yield name, tuple(map(_float32, tensors)) if name in small else tensors


def _small(step: Step) -> tuple[str, ...]:
    match step.op:
        case "norm" | "conv" | "attend" | "route":
            return step.weights
        case "linear" if step.attributes.get("bias"):
            return step.weights[len(step.weights) // 2 :]
        case _:
            return ()


def _float32(tensor: Tensor) -> Tensor:
    if tensor.type == "F32":
        return tensor
    return Tensor(tensor.name, "F32", tensor.shape, dequantise(tensor).reshape(-1).view(np.uint8))


def _matrix(tensor: Tensor) -> Matrix:
    """Raises ValueError, as the core does for shapes that do not fit."""
    if len(tensor.shape) not in (1, 2):
        raise ValueError(f"the tensor {tensor.name} has {len(tensor.shape)} axes: expected a vector or a matrix")
    rows, columns = (1, *tensor.shape) if len(tensor.shape) == 1 else tensor.shape
    return tensor.type, rows, columns, tensor.data
