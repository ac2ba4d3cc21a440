"""Plans of random models, run in NumPy, against transformers in float32: every switch, every token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.models import lfm2, lfm2_moe
from headrace.plan import fuse
from headrace.reference import Reference, State
from headrace.weights import safetensors
from headrace.weights.fields import Fields
from tests import random_models

TOKENS = np.random.default_rng(0).integers(3, random_models.VOCABULARY, 40).tolist()

CASES: dict[str, Any] = {
    "moe": (random_models.moe, {}),
    "moe without top-k normalisation": (random_models.moe, {"norm_topk_prob": False}),
    "moe without expert bias": (random_models.moe, {"use_expert_bias": False}),
    "moe top-1": (random_models.moe, {"num_experts_per_tok": 1}),
    "moe all experts": (random_models.moe, {"num_experts_per_tok": 8}),
    "moe conv bias": (random_models.moe, {"conv_bias": True}),
    "moe 4 taps": (random_models.moe, {"conv_L_cache": 4}),
    "moe no dense layer": (random_models.moe, {"num_dense_layers": 0}),
    "moe 3 dense layers": (random_models.moe, {"num_dense_layers": 3}),
    "moe attention first and last": (
        random_models.moe,
        {"layer_types": ["full_attention", "conv", "conv", "full_attention"]},
    ),
    "moe odd heads": (random_models.moe, {"num_attention_heads": 3, "num_key_value_heads": 3}),
    "moe one kv head": (random_models.moe, {"num_attention_heads": 3, "num_key_value_heads": 1}),
    "moe untied": (random_models.moe, {"tie_word_embeddings": False}),
    "moe theta": (random_models.moe, {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}),
    "dense": (random_models.dense, {}),
    "dense untied": (random_models.dense, {"tie_word_embeddings": False}),
    "dense conv bias": (random_models.dense, {"conv_bias": True}),
    "dense width as given": (random_models.dense, {"block_auto_adjust_ff_dim": False}),
    "dense multiplier": (random_models.dense, {"block_ffn_dim_multiplier": 1.3}),
    "dense rounded up": (random_models.dense, {"block_multiple_of": 24}),
    "dense all convolutions": (random_models.dense, {"layer_types": ["conv"] * 4}),
    "dense all attention": (random_models.dense, {"layer_types": ["full_attention"] * 4}),
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    make, changes = CASES[request.param]
    model = make(**changes)
    return model, random_models.save(model, tmp_path_factory.mktemp("model"))


def reference(folder: Path, **options: Any) -> Reference:
    fields = Fields("config.json", json.loads((folder / "config.json").read_text()))
    architecture: Any = {"lfm2": lfm2, "lfm2_moe": lfm2_moe}[fields.text("model_type")]
    config = architecture.config_from_hf(fields)
    plan = architecture.plan(config)
    tensors = safetensors.read_folder(folder)
    return Reference(plan, architecture.weights_from_hf(plan.weights(), tensors, "folder", config), **options)


def assert_close(found: Any, expected: Any) -> None:
    """Within 1e-4 of the logits' range: float32 sums in another order, through all layers."""
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def test_whole(case: tuple[Any, Path]) -> None:
    model, folder = case
    assert_close(reference(folder).logits(TOKENS), random_models.logits(model, TOKENS))


def test_weights_made_where_they_are_used(case: tuple[Any, Path]) -> None:
    """The same bits from a reference that holds nothing, for files that would not fit into memory as float32."""
    _, folder = case
    np.testing.assert_array_equal(reference(folder, hold=False).logits(TOKENS), reference(folder).logits(TOKENS))


def test_chunks_and_token_by_token(case: tuple[Any, Path]) -> None:
    model, folder = case
    oracle, state = reference(folder), State()
    pieces = [TOKENS[:7], TOKENS[7:8], TOKENS[8:9], TOKENS[9:30], *([token] for token in TOKENS[30:])]
    assert_close(np.concatenate([oracle.logits(piece, state) for piece in pieces]), random_models.logits(model, TOKENS))


def test_fused_equals_unfused(case: tuple[Any, Path]) -> None:
    _, folder = case
    plain = reference(folder)
    fused = reference(folder)
    fused.plan = fuse(plain.plan)
    assert len(fused.plan.steps) < len(plain.plan.steps)
    np.testing.assert_allclose(fused.logits(TOKENS), plain.logits(TOKENS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("dense")])
def test_width_rule(name: str) -> None:
    make, changes = CASES[name]
    model = make(**changes)
    fields = Fields("config.json", model.config.to_dict())
    assert lfm2.feed_forward_width(fields) == model.model.layers[0].feed_forward.w1.out_features


def test_width_rule_without_a_multiplier() -> None:
    """transformers rounds up only where there is a multiplier."""
    fields = Fields("config.json", {"block_ff_dim": 1000, "block_ffn_dim_multiplier": None})
    assert lfm2.feed_forward_width(fields) == 666
