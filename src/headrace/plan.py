"""What a model does, as a flat list of coarse operations.

A model file builds one `Plan`; `fuse` rewrites it; `reference.py` runs it in NumPy and `_core` runs it natively.
A value is named by the index of the step that makes it, so a plan is in single-assignment form.

Shapes: T tokens of a batch, H hidden width, V vocabulary rows, E experts, K convolution taps.

    operation  inputs           weights                        gives
    embed      -                table [V, H]                   [T, H]
    norm       x                weight [H]                     x / rms(x) * weight
    linear     x                one or more [O, I], biases     x @ w.T (+ bias), one block of columns for each
    conv       bcx [T, 3H]      taps [H, K], bias [H]          C * causal_conv(B * x)
    attend     q, k, v or qkv   q_norm, k_norm [D], factors    softmax(q k / sqrt(D)) v, causal, with QK-norm and RoPE
    swiglu     gate, up or both -                              silu(gate) * up
    route      x                gate [E, H], bias [E]          the top_k experts of each token, and their weights
    experts    x, routing       gate, up, down: E matrices     the weighted sum of the chosen SwiGLU experts
    add        x, y             -                              x + y
    select     x                -                              the rows whose logits were asked for

    attributes: norm eps; linear bias; conv slot, bias; route top_k, normalise, scale, bias;
                attend slot, heads, kv_heads, head_dim, theta, qk_norm, eps, factors

`slot` counts the layers that keep the same kind of state: it says where in the cache a layer's keys and values, or its
convolution inputs, live. A step with `bias` set names its biases after its matrices, in the same order. `attend` has no
norms and no eps where `qk_norm` is false (by default it is true); with `factors` it names last what divides its rotary
frequencies, [D / 2].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

Attribute = int | float | bool

OPERATIONS = ("embed", "norm", "linear", "conv", "attend", "swiglu", "route", "experts", "add", "select")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `inputs` are indices of earlier steps, `weights` are names in the model's weight table."""

    op: str
    inputs: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)
class Plan:
    """Steps in the order in which they run; the last one gives the logits."""

    steps: list[Step] = field(default_factory=list)

    def add(self, op: str, *inputs: int, weights: Sequence[str] = (), **attributes: Attribute) -> int:
        """Appends a step and returns its index, the name of its value."""
        if op not in OPERATIONS:
            raise ValueError(f"unknown operation {op!r}: a plan is made of {', '.join(OPERATIONS)}")
        self.steps.append(Step(op, inputs, tuple(weights), MappingProxyType(attributes)))
        return len(self.steps) - 1

    def count(self, op: str) -> int:
        """How many steps of this kind the plan has."""
        return sum(step.op == op for step in self.steps)

    def weights(self) -> list[str]:
        """The names of all weights, each once, in the order of their first use."""
        return list(dict.fromkeys(name for step in self.steps for name in step.weights))


def fuse(plan: Plan) -> Plan:
    """Merges linear steps that read the same value for one consumer: q, k, v of `attend` and gate, up of `swiglu`.

    The rewritten plan gives the same numbers; its matrices are read in one pass over the input.
    """
    uses = [0] * len(plan.steps)
    for step in plan.steps:
        for value in step.inputs:
            uses[value] += 1

    merged: dict[int, Step] = {}  # index of a group's last member -> the step that replaces the group
    dropped: set[int] = set()
    for step in plan.steps:
        group = [plan.steps[value] for value in step.inputs]
        if step.op not in ("attend", "swiglu") or len(group) < 2 or not _mergeable(group):
            continue
        if any(uses[value] != 1 for value in step.inputs):
            continue
        *earlier, last = sorted(step.inputs)
        dropped.update(earlier)
        merged[last] = replace(
            group[0],
            weights=tuple(member.weights[0] for member in group),
        )

    fused, names = Plan(), dict[int, int]()
    for index, step in enumerate(plan.steps):
        if index in dropped:
            continue
        step = merged.get(index, step)
        inputs = tuple(names[value] for value in step.inputs if value in names)
        fused.steps.append(replace(step, inputs=inputs))
        names[index] = len(fused.steps) - 1
    return fused


def _mergeable(group: Sequence[Step]) -> bool:
    """Whether these are plain linear steps (no bias) that read the same value."""
    first = group[0]
    return all(
        step.op == "linear"
        and step.inputs == first.inputs
        and len(step.weights) == 1
        and not step.attributes.get("bias")
        for step in group
    )
