"""The native core against the NumPy interpreter, on quantised models: the whole, and step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import checkpoint, synthetic
from headrace.checkpoint import Checkpoint
from headrace.engine import core
from headrace.engine.batch import Batch, Part
from headrace.engine.parameters import Parameters
from headrace.engine.request import Sequence
from headrace.errors import RequestInvalid
from headrace.plan import Step, fuse
from headrace.reference import Context, Reference, Routing, State
from headrace.weights.mixtures import MIXTURES
from headrace.weights.tensor import Tensor
from tests import random_models

TOKENS = np.random.default_rng(2).integers(8, random_models.VOCABULARY, 48).tolist()
WIDE = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 288, "moe_intermediate_size": 256}


def mixed(name: str) -> str:
    """All types at once, each where its blocks fit."""
    if "ffn_gate_inp" in name or "shortconv.conv" in name:
        return "F32"
    for part, kind in {"in_proj": "Q4_0", "attn_q": "Q8_0", "attn_k": "F16", "attn_v": "BF16", "down": "Q8_0"}.items():
        if part in name:
            return kind
    return "Q4_0"


def fifths(name: str) -> str:
    """The types with fifth bits and minima that the gguf package writes."""
    return "Q4_1" if "down" in name else "Q5_1" if "gate" in name else "Q5_0"


TYPES = {"mixed": mixed, "fifths": fifths, "Q4_0": lambda _: "Q4_0", "Q8_0": lambda _: "Q8_0"}


@pytest.fixture(scope="module", params=TYPES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    def types(name: str) -> str:
        return "F32" if "ffn_gate_inp" in name or "shortconv.conv" in name else TYPES[request.param](name)

    model = random_models.moe(**WIDE)
    return checkpoint.read(random_models.save_gguf(model, tmp_path_factory.mktemp("gguf") / "model.gguf", types))


def synthesised(path: Path, quant: str, experts: int) -> Checkpoint:
    member = synthetic.Member(512, 8, 512, 4, (2,), experts=experts, expert_width=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "FAMILY", {"small": member})
        synthetic.synthesise("small", path, quant)
    return checkpoint.read(path)


def build(source: Checkpoint, threads: int = 2) -> Any:
    vocab_size = source.backbone.vocab_size
    return core.build(source.plan, source.weights, vocab_size=vocab_size, blocks=4, threads=threads)


def batch(tokens: list[int]) -> Batch:
    sequence = Sequence.start(tokens, Parameters(), len(tokens))
    sequence.blocks = list(range(-(-len(tokens) // core.BLOCK_TOKENS)))
    return Batch.of([Part(sequence, len(tokens), range(len(tokens)))])


def test_float_weights_equal_the_reference(tmp_path: Path) -> None:
    """No rounding of activations: the whole model within 1e-4 of the logits' range, keys and values in fp32."""
    model = random_models.moe(**WIDE)
    source = checkpoint.read(random_models.save_gguf(model, tmp_path / "model.gguf"))
    expected, found = Reference(source.plan, source.weights).logits(TOKENS), build(source).logits(batch(TOKENS))
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("isa", core.load_core().isas())
def test_each_step_equals_the_reference(isa: str, source: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ISA", isa)
    check_steps(source)


@pytest.mark.parametrize("quant", MIXTURES)
@pytest.mark.parametrize("isa", core.load_core().isas())
def test_each_step_of_a_mixed_file_does(isa: str, quant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ISA", isa)
    check_steps(synthesised(tmp_path / "mixed.gguf", quant, experts=8))


def check_steps(source: Checkpoint) -> None:
    """Every operation, on the native model's own inputs: within 1e-5 of its range, but where a rounding is a tie.

    The whole cannot be compared so closely. A value that lies between two int8 levels (or fp16 numbers) falls to either
    side by the order of a sum before it; about one in 10^5 does, and a random network makes the most of it.
    """
    plan = fuse(source.plan)
    reference = Reference(plan, source.weights, kv="fp16")
    native = build(source).values(batch(TOKENS))
    context = Context(np.array(TOKENS), np.arange(len(TOKENS)), State())
    for step, found in zip(plan.steps, native, strict=True):
        expected = reference._run(step, [as_value(plan.steps[i], native[i]) for i in step.inputs], context)
        if isinstance(expected, Routing):
            expected = np.concatenate([expected.experts, expected.weights], axis=1)
        assert found.shape == expected.shape, step.op
        error = np.abs(found - expected).max(axis=1) / np.ptp(expected)
        usual = 1e-5 if step.op == "attend" else 1e-6  # a key that fell to the other side is seen by all later tokens
        assert np.median(error) <= usual, step
        assert (error > 1e-5).mean() <= 0.1, step
        assert error.max() <= 4e-3, step


def as_value(step: Step, value: Any) -> Any:
    """The native form of a routing is [T, experts then weights]."""
    if step.op != "route":
        return value
    experts, weights = np.split(value, 2, axis=1)
    return Routing(experts.astype(np.int64), weights)


def test_a_tie_costs_less_than_the_rounding_itself(source: Checkpoint) -> None:
    """The whole: native and reference differ far less than either does from float activations."""
    exact = Reference(source.plan, source.weights, quantise_activations=False).logits(TOKENS)
    rounded = Reference(source.plan, source.weights, kv="fp16").logits(TOKENS)
    native = build(source).logits(batch(TOKENS))
    assert divergence(rounded, native) <= 0.2 * divergence(exact, native)


def test_the_scheme_is_close_to_float_activations(source: Checkpoint) -> None:
    """int8 activations against float ones on the same dequantised weights, at the depth and width of a small model."""
    found = build(source).logits(batch(TOKENS))
    exact = Reference(source.plan, source.weights, quantise_activations=False).logits(TOKENS)
    assert divergence(exact, found) <= 2e-2
    assert (exact.argmax(axis=1) == found.argmax(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("quant", MIXTURES)
def test_mixed_files_are_as_close_to_float_activations(quant: str, tmp_path: Path) -> None:
    """As close as Q8_0 and Q4_0 are, which diverge by 6e-4 here: what is left is the rounding of activations."""
    source = synthesised(tmp_path / "mixed.gguf", quant, experts=0)  # nothing to choose: no expert may flip
    found = build(source).logits(batch(TOKENS))
    exact = Reference(source.plan, source.weights, quantise_activations=False).logits(TOKENS)
    rounded = Reference(source.plan, source.weights, kv="fp16").logits(TOKENS)
    assert divergence(exact, found) <= 1e-3
    assert divergence(rounded, found) <= 0.25 * divergence(exact, found)


def divergence(p: Any, q: Any) -> float:
    """Mean Kullback-Leibler divergence of the distributions of two arrays of logits, in nats a token."""
    p, q = (np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True)) for x in (p, q))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float(np.sum(p * np.log(p / q), axis=1).mean())


def test_an_unknown_instruction_set_is_named(source: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ISA", "avx9")
    with pytest.raises(RequestInvalid, match="HEADRACE_ISA is 'avx9' but this machine has"):
        build(source)


def test_small_weights_are_float32_in_the_core(source: Checkpoint) -> None:
    halves = {name: tuple(half(t) for t in tensors) for name, tensors in source.weights.items()}
    prepared = dict(core._prepared(source.plan, halves))
    assert {prepared[n][0].type for n in prepared if n.endswith(("norm", "gate", "bias", "conv.conv"))} == {"F32"}
    assert prepared["embed_tokens"][0].type != "F32"


def half(tensor: Tensor) -> Tensor:
    if tensor.type != "F32":
        return tensor
    data = tensor.data.view(np.float32).astype(np.float16).view(np.uint8)
    return Tensor(tensor.name, "F16", tensor.shape, data)


def test_kv_is_fp32_only_for_models_stored_wholly_in_f32(source: Checkpoint, tmp_path: Path) -> None:
    assert core.kv_type(source.weights) == "fp16"
    whole = checkpoint.read(random_models.save_gguf(random_models.dense(), tmp_path / "f32.gguf"))
    assert core.kv_type(whole.weights) == "fp32"
    assert core.kv_type(whole.weights, "int8") == "int8"
