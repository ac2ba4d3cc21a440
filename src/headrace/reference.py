"""Runs a plan in NumPy, one sequence at a time: slow, plain, and the oracle of the native core.

Float weights meet float activations. Where a matrix is stored quantised, its input is rounded to int8 in groups of 32
first (`quantise_activations`), exactly as the native kernels do: what is left between the two is the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.plan import Plan, Step
from headrace.weights.quantisation import QUANTISED, dequantise
from headrace.weights.tensor import Weights

Array = NDArray[np.float32]
GROUP = 32  # activations that share one scale


@dataclass(slots=True)
class State:
    """What a sequence remembers: keys and values [positions, kv_heads, head_dim], convolution inputs [K - 1, H]."""

    position: int = 0
    keys: dict[int, Array] = field(default_factory=dict)
    values: dict[int, Array] = field(default_factory=dict)
    inputs: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Routing:
    """The chosen experts of each token, best first, and their weights in the sum: both [T, top_k]."""

    experts: NDArray[np.int64]
    weights: Array


@dataclass(frozen=True, slots=True)
class Context:
    """One run over T new tokens of a sequence."""

    tokens: NDArray[np.int64]
    rows: NDArray[np.int64]
    state: State


class Reference:
    """Interprets `plan` with `weights`; `kv` is "fp16", "int8" or "fp32": how keys and values are kept.

    With `hold` the weights stay in memory as float32; without it each is made anew where it is used, which takes
    longer and no more memory than the largest of them.
    """

    def __init__(
        self, plan: Plan, weights: Weights, *, kv: str = "fp32", quantise_activations: bool = True, hold: bool = True
    ) -> None:
        self.plan = plan
        self.kept = KEPT[kv]
        self.quantise_activations = quantise_activations
        self.stored = weights
        self.held = {name: [*map(dequantise, tensors)] for name, tensors in weights.items()} if hold else {}

    def logits(self, tokens: Sequence[int], state: State | None = None) -> Array:
        """Logits [T, V] of T tokens that follow what `state` holds (nothing, if it is not given)."""
        logits: Array = self.values(tokens, state)[-1]
        return logits

    def values(self, tokens: Sequence[int], state: State | None = None, rows: Sequence[int] | None = None) -> list[Any]:
        """The value of every step; `rows` are the tokens that `select` keeps (all, if not given). Advances `state`."""
        chosen = range(len(tokens)) if rows is None else rows
        context = Context(np.asarray(tokens, np.int64), np.asarray(chosen, np.int64), state or State())
        values: list[Any] = []
        for step in self.plan.steps:
            values.append(self._run(step, [values[i] for i in step.inputs], context))
        context.state.position += len(tokens)
        return values

    def _run(self, step: Step, inputs: list[Any], context: Context) -> Any:
        operation: Callable[..., Any] = getattr(self, "_" + step.op)
        return operation(step, context, *inputs)

    def _embed(self, step: Step, context: Context) -> Array:
        return self._matrix(step.weights[0])[context.tokens]

    def _norm(self, step: Step, _: Context, x: Array) -> Array:
        return rms_norm(x, self._vector(step.weights[0]), float(step.attributes["eps"]))

    def _linear(self, step: Step, _: Context, x: Array) -> Array:
        count = len(step.weights) // 2 if step.attributes.get("bias") else len(step.weights)
        outputs = [self._multiply(x, name) for name in step.weights[:count]]
        for output, name in zip(outputs, step.weights[count:], strict=False):
            output += self._vector(name)
        return np.concatenate(outputs, axis=1)

    def _conv(self, step: Step, context: Context, bcx: Array) -> Array:
        b, c, x = np.split(bcx, 3, axis=1)
        taps = self._matrix(step.weights[0])
        slot, before = int(step.attributes["slot"]), taps.shape[1] - 1
        past = context.state.inputs.get(slot, np.zeros((before, x.shape[1]), np.float32))
        u = np.concatenate([past, b * x])
        context.state.inputs[slot] = u[len(u) - before :]
        mixed = sum(taps[:, k] * u[k : k + len(x)] for k in range(taps.shape[1]))
        if step.attributes.get("bias"):
            mixed = mixed + self._vector(step.weights[1])
        output: Array = c * mixed
        return output

    def _attend(self, step: Step, context: Context, *parts: Array) -> Array:
        heads, kv_heads, width = (int(step.attributes[name]) for name in ("heads", "kv_heads", "head_dim"))
        theta, slot = float(step.attributes["theta"]), int(step.attributes["slot"])
        factors = self._vector(step.weights[-1]) if step.attributes.get("factors") else None
        qkv = np.concatenate(parts, axis=1).reshape(len(parts[0]), -1, width)
        q, k, v = np.split(qkv, [heads, heads + kv_heads], axis=1)
        state, positions = context.state, context.state.position + np.arange(len(q))
        if step.attributes.get("qk_norm", True):
            eps = float(step.attributes["eps"])
            q, k = (rms_norm(x, self._vector(name), eps) for x, name in zip((q, k), step.weights[:2], strict=True))
        q, k = rotate(q, positions, theta, factors), rotate(k, positions, theta, factors)
        empty = np.zeros((0, kv_heads, width), np.float32)
        keys = np.concatenate([state.keys.get(slot, empty), self.kept(k)])
        values = np.concatenate([state.values.get(slot, empty), self.kept(v)])
        state.keys[slot], state.values[slot] = keys, values
        return causal_attention(q, keys, values).reshape(len(q), -1)

    def _swiglu(self, _: Step, __: Context, *parts: Array) -> Array:
        gate, up = parts if len(parts) == 2 else np.split(parts[0], 2, axis=1)
        return swiglu(gate, up)

    def _route(self, step: Step, _: Context, x: Array) -> Routing:
        scores = sigmoid(x @ self._matrix(step.weights[0]).T)
        preferred = scores + self._vector(step.weights[1]) if step.attributes["bias"] else scores
        chosen = np.argsort(-preferred, axis=1, kind="stable")[:, : int(step.attributes["top_k"])]
        weights = np.take_along_axis(scores, chosen, axis=1)
        if step.attributes["normalise"]:
            weights = weights / (weights.sum(axis=1, keepdims=True) + np.float32(1e-6))
        return Routing(chosen, weights * np.float32(step.attributes["scale"]))

    def _experts(self, step: Step, _: Context, x: Array, routing: Routing) -> Array:
        output = np.zeros_like(x)
        for expert in np.unique(routing.experts):
            token, rank = np.nonzero(routing.experts == expert)
            gate, up, down = step.weights
            hidden = swiglu(self._multiply(x[token], gate, expert), self._multiply(x[token], up, expert))
            output[token] += routing.weights[token, rank, None] * self._multiply(hidden, down, expert)
        return output

    def _add(self, _: Step, __: Context, x: Array, y: Array) -> Array:
        return x + y

    def _select(self, _: Step, context: Context, x: Array) -> Array:
        kept: Array = x[context.rows]
        return kept

    def _multiply(self, x: Array, name: str, index: int = 0) -> Array:
        if self.quantise_activations and self.stored[name][0].type in QUANTISED:
            x = round_to_int8(x)
        product: Array = x @ self._matrix(name, index).T
        return product

    def _vector(self, name: str) -> Array:
        return self._matrix(name).reshape(-1)

    def _matrix(self, name: str, index: int = 0) -> Array:
        held = self.held.get(name)
        return held[index] if held else dequantise(self.stored[name][index])


def round_to_int8(x: Array, group: int = GROUP) -> Array:
    """What x [..., K] becomes where each group (0: all of K) is stored as int8, its largest magnitude as 127."""
    groups = x.reshape(*x.shape[:-1], -1, group or x.shape[-1])
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    rounded: Array = np.rint(groups * inverse) * (largest / np.float32(127))
    return rounded.reshape(x.shape)


def to_half(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float32)


KEPT: dict[str, Callable[[Array], Array]] = {
    "fp16": to_half,
    "int8": partial(round_to_int8, group=0),
    "fp32": lambda x: x,
}


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, 2019)."""
    mean: Array = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    normed: Array = weight * (x / np.sqrt(mean + np.float32(eps)))
    return normed


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) may be infinite, and 1 / infinity is the right 0
        y: Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return y


def swiglu(gate: Array, up: Array) -> Array:
    """silu(gate) * up (Shazeer, 2020)."""
    return gate * sigmoid(gate) * up


def rotate(x: Array, positions: NDArray[np.int64], theta: float, factors: Array | None = None) -> Array:
    """Rotary position embedding of x [T, heads, D]: dimension i turns with dimension i + D / 2 (Su et al., 2021).

    `factors` [D / 2] divide the frequencies. The angles are computed in float32, as transformers does: at long
    positions double precision would differ.
    """
    half = x.shape[-1] // 2
    exponents = np.arange(0, 2 * half, 2, dtype=np.float32) / np.float32(2 * half)
    frequencies = np.float32(1) / np.power(np.float32(theta), exponents)
    if factors is not None:
        frequencies = frequencies / factors
    angles = positions[:, None].astype(np.float32) * frequencies
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def causal_attention(q: Array, keys: Array, values: Array) -> Array:
    """softmax(q k / sqrt(D)) v for q [T, heads, D], the last T of P positions; keys and values [P, kv_heads, D]."""
    tokens, heads, width = q.shape
    positions, kv_heads, _ = keys.shape
    shared = q.reshape(tokens, kv_heads, heads // kv_heads, width)
    scores = np.einsum("tkgd,pkd->tkgp", shared, keys) / np.float32(np.sqrt(width))
    future = np.arange(positions) > np.arange(positions - tokens, positions)[:, None]
    scores[np.broadcast_to(future[:, None, None], scores.shape)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    output: Array = np.einsum("tkgp,pkd->tkgd", weights, values).reshape(tokens, heads, width)
    return output
