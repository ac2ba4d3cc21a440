"""Small random weights, plans, native models and batches: what the tests of the native core are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from headrace import _core
from headrace.plan import Plan, Step
from headrace.weights.tensor import Tensor, Weights

BLOCK_TOKENS = 64
BLOCKS = 64
BLOCK_BYTES = {
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "Q8_0": 34,
    "Q4_0": 18,
    "Q4_1": 20,
    "Q5_0": 22,
    "Q5_1": 24,
    "IQ4_NL": 18,
    "Q3_K": 110,
    "Q4_K": 144,
    "Q5_K": 176,
    "Q6_K": 210,
}
BLOCK = {kind: 1 if kind[0] in "FB" else 256 if kind.endswith("K") else 32 for kind in BLOCK_BYTES}
QUANTISED = tuple(kind for kind in BLOCK if BLOCK[kind] > 1)
SCALE_AT = {kind: {"Q6_K": 208, "Q3_K": 108}.get(kind, 0) for kind in QUANTISED}
LEVELS_AT = {
    "Q4_1": 4,
    "Q5_1": 4,
    "Q4_K": 16,
    "Q5_K": 16,
}  # with a minimum, whose half is the second


def random_tensor(rng: np.random.Generator, kind: str, rows: int, columns: int, size: float = 1) -> Tensor:
    """A matrix whose bytes are random: every value that a format can hold. Quantised scales are about `size` / 16."""
    if kind in SCALE_AT:
        blocks = rng.integers(0, 256, (rows * columns // BLOCK[kind], BLOCK_BYTES[kind]), dtype=np.uint8)
        scales = (rng.uniform(-1, 1, len(blocks)) * size / 16).astype(np.float16)
        blocks[:, SCALE_AT[kind] : SCALE_AT[kind] + 2] = scales[:, None].view(np.uint8)
        if kind in LEVELS_AT:
            least = (rng.uniform(-1, 1, len(blocks)) * size / 2).astype(np.float16)
            blocks[:, 2:4] = least[:, None].view(np.uint8)
        return Tensor(kind, kind, (rows, columns), blocks.reshape(-1))
    return float_tensor(kind, rng.standard_normal((rows, columns), np.float32) * np.float32(size))


def float_tensor(kind: str, x: Any) -> Tensor:
    x = np.ascontiguousarray(x, np.float32)
    match kind:
        case "F32":
            stored: NDArray[Any] = x
        case "F16":
            stored = x.astype(np.float16)
        case _:
            stored = (x.view(np.uint32) >> 16).astype(np.uint16)
    return Tensor(kind, kind, x.shape, stored.reshape(-1).view(np.uint8))


def numbers(tensor: Tensor) -> NDArray[np.float64]:
    """The weights that the bytes stand for, by the `gguf` package."""
    kind = gguf.GGMLQuantizationType[tensor.type]
    rows = tensor.data.reshape(tensor.shape[0], -1)
    return gguf.quants.dequantize(rows, kind).reshape(tensor.shape).astype(np.float64)


def minima(tensor: Tensor) -> NDArray[np.float64]:
    """What is added to a weight beside its level's share of it: weights whose levels are zero."""
    blocks = tensor.data.reshape(-1, BLOCK_BYTES[tensor.type]).copy()
    blocks[:, LEVELS_AT.get(tensor.type, 0) :] = 0
    return numbers(Tensor(tensor.name, tensor.type, tensor.shape, blocks.reshape(-1)))


def quantise(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Activations [M, K] as integers [M, K / 32, 32] and scales [M, K / 32], by the definition in kernels.h."""
    groups = x.reshape(len(x), -1, 32)
    largest = np.abs(groups).max(axis=2)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(127) / largest
    usable = np.isfinite(inverse)
    inverse = np.where(usable, inverse, np.float32(0))
    scale = np.where(usable, largest / np.float32(127), np.float32(0))
    return np.rint(groups * inverse[:, :, None]).astype(np.int64), scale


def model(plan: Plan | Sequence[Any], weights: Weights, **options: Any) -> _core.Model:
    """A native model with small defaults; `plan` may be a list of raw steps, to build what must be refused."""
    steps = plan.steps if isinstance(plan, Plan) else plan
    vocab_size = options.pop("vocab_size", None) or _vocab_size(weights)
    defaults = {"block_tokens": BLOCK_TOKENS, "blocks": BLOCKS, "kv": "fp32", "threads": 1}
    return _core.Model(
        [(s.op, s.inputs, s.weights, s.attributes) if isinstance(s, Step) else s for s in steps],
        {name: [entry(tensor) for tensor in tensors] for name, tensors in weights.items()},
        vocab_size=vocab_size,
        **(defaults | options),
    )


def _vocab_size(weights: Weights) -> int:
    return weights["embed"][0].shape[0]


def entry(tensor: Tensor) -> tuple[str, int, int, NDArray[np.uint8]]:
    rows, columns = (1, *tensor.shape) if len(tensor.shape) == 1 else tensor.shape
    return tensor.type, rows, columns, tensor.data


def batch(
    sequences: Sequence[Sequence[int]],
    positions: Sequence[int] | None = None,
    blocks: Sequence[Sequence[int]] | None = None,
    rows: Sequence[int] | None = None,
    **fields: Any,
) -> SimpleNamespace:
    """Sequences of new tokens. Sequence s owns blocks 4 s .. 4 s + 3 unless told; all rows are wanted; greedy sampling.

    Any field may be replaced, by a whole column or by one number for all rows.
    """
    tokens = [token for sequence in sequences for token in sequence]
    blocks = [range(4 * s, 4 * s + 4) for s in range(len(sequences))] if blocks is None else blocks
    rows = range(len(tokens)) if rows is None else rows
    count = len(rows)
    result = {
        "tokens": int32(tokens),
        "starts": offsets(sequences),
        "positions": int32([0] * len(sequences) if positions is None else positions),
        "blocks": int32([block for owned in blocks for block in owned]),
        "block_starts": offsets(blocks),
        "slots": np.full(len(sequences), -1, np.int32),
        "rewinds": np.zeros(len(sequences), np.int32),
        "rows": int32(rows),
        "temperature": np.zeros(count, np.float32),
        "top_k": np.zeros(count, np.int32),
        "top_p": np.ones(count, np.float32),
        "min_p": np.zeros(count, np.float32),
        "repeat_penalty": np.ones(count, np.float32),
        "presence_penalty": np.zeros(count, np.float32),
        "frequency_penalty": np.zeros(count, np.float32),
        "seed": np.zeros(count, np.uint64),
        "history": int32([]),
        "history_starts": np.zeros(count + 1, np.int32),
        "bias_ids": int32([]),
        "bias_values": np.zeros(0, np.float32),
        "bias_starts": np.zeros(count + 1, np.int32),
        "mask": np.zeros((0, 0), np.uint32),
        "mask_rows": np.full(count, -1, np.int32),
        "targets": np.full(count, -1, np.int32),
        "top_logprobs": np.full(count, -1, np.int32),
        "experts": False,
    }
    for name, value in fields.items():
        same = isinstance(value, int | float) and isinstance(result.get(name), np.ndarray)
        result[name] = np.full_like(result[name], value) if same else value
    return SimpleNamespace(**result)


def int32(values: Any) -> NDArray[np.int32]:
    return np.array(list(values), np.int32)


def offsets(parts: Sequence[Any]) -> NDArray[np.int32]:
    return int32(np.cumsum([0, *map(len, parts)]))


def hybrid(rng: np.random.Generator, kind: str = "F32", **sizes: Any) -> tuple[Plan, Weights]:
    """A plan with every operation in it: convolutions, attention, a dense feed-forward layer and experts."""
    s = SimpleNamespace(
        **({"vocab": 67, "hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 16, "taps": 3, "conv_bias": True}
           | {"inner": 96, "experts": 5, "top_k": 2, "normalise": True, "expert_bias": True, "bias": False} | sizes)
    )  # fmt: skip
    plan, weights = Plan(), {"embed": (random_tensor(rng, kind, s.vocab, s.hidden),)}

    def matrix(name: str, rows: int, columns: int, count: int = 1) -> str:
        weights[name] = tuple(random_tensor(rng, kind, rows, columns, size=columns**-0.5) for _ in range(count))
        return name

    def vector(name: str, *shape: int, around: float = 0) -> str:
        weights[name] = (float_tensor("F32", around + rng.standard_normal(shape) / 2),)
        return name

    def linear(x: int, name: str, rows: int, columns: int) -> int:
        names = [matrix(name, rows, columns)] + ([vector(name + ".bias", rows)] if s.bias else [])
        return plan.add("linear", x, weights=names, bias=s.bias)

    def norm(x: int, name: str) -> int:
        return plan.add("norm", x, weights=[vector(name, s.hidden, around=1)], eps=1e-5)

    def conv(x: int, slot: int) -> int:
        names = [vector(f"taps{slot}", s.hidden, s.taps)] + ([vector(f"cb{slot}", s.hidden)] if s.conv_bias else [])
        bcx = linear(norm(x, f"cn{slot}"), f"in{slot}", 3 * s.hidden, s.hidden)
        y = plan.add("conv", bcx, weights=names, slot=slot, bias=s.conv_bias)
        return plan.add("add", x, linear(y, f"out{slot}", s.hidden, s.hidden))

    def attend(x: int, slot: int) -> int:
        h, width = norm(x, f"an{slot}"), {"q": s.heads * s.head_dim, "kv": s.kv_heads * s.head_dim}
        qkv = [linear(h, f"{part}{slot}", width["q" if part == "q" else "kv"], s.hidden) for part in "qkv"]
        norms = [vector(f"{part}n{slot}", s.head_dim, around=1) for part in "qk"]
        y = plan.add("attend", *qkv, weights=norms, slot=slot, heads=s.heads, kv_heads=s.kv_heads,
                     head_dim=s.head_dim, eps=1e-5, theta=1e4)  # fmt: skip
        return plan.add("add", x, linear(y, f"o{slot}", s.hidden, width["q"]))

    def dense(x: int) -> int:
        h = norm(x, "dn")
        y = plan.add("swiglu", linear(h, "gate", s.inner, s.hidden), linear(h, "up", s.inner, s.hidden))
        return plan.add("add", x, linear(y, "down", s.hidden, s.inner))

    def mixture(x: int) -> int:
        h = norm(x, "mn")
        names = [vector("router", s.experts, s.hidden)] + ([vector("eb", s.experts)] if s.expert_bias else [])
        r = plan.add("route", h, weights=names, top_k=s.top_k, normalise=s.normalise, scale=1.5, bias=s.expert_bias)
        stacks = [matrix("w1", s.inner, s.hidden, s.experts), matrix("w3", s.inner, s.hidden, s.experts)]
        y = plan.add("experts", h, r, weights=[*stacks, matrix("w2", s.hidden, s.inner, s.experts)])
        return plan.add("add", x, y)

    x = conv(plan.add("embed", weights=["embed"]), 0)
    x = mixture(attend(dense(x), 0))
    x = attend(conv(x, 1), 1)
    plan.add("linear", plan.add("select", norm(x, "final")), weights=["embed"])
    return plan, weights


def logits_of(native: _core.Model, tokens: Sequence[int], chunks: Sequence[int], base: int = 0) -> NDArray[np.float32]:
    """The logits of all tokens, in chunks of these sizes, in cache blocks from `base` on."""
    pieces, position = [], 0
    owned = range(base, base + 1 + len(tokens) // BLOCK_TOKENS)
    for size in chunks:
        pieces.append(native.logits(batch([tokens[position : position + size]], [position], [owned])))
        position += size
    return np.concatenate(pieces)


def tensors(mapping: Mapping[str, Tensor]) -> Weights:
    return {name: (tensor,) for name, tensor in mapping.items()}
