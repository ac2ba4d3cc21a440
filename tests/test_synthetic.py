"""Random models of the family's shapes: as many parameters as published, finite, spread over all experts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace import checkpoint, synthetic
from headrace.errors import RequestInvalid
from headrace.reference import Reference
from headrace.synthetic import FAMILY, synthesise
from headrace.weights.gguf import read
from headrace.weights.mixtures import MIXTURES

# From the model cards; the mixtures' from llama.cpp's own count of their files.
PUBLISHED = {
    "lfm2:350m": 354_483_968,
    "lfm2:700m": 742_489_344,
    "lfm2:1.2b": 1_170_340_608,
    "lfm2:2.6b": 2_569_272_320,
    "lfm2:8b": 8_339_930_560,
    "lfm2:24b": 23_843_661_440,
}


@pytest.mark.parametrize("name", FAMILY)
def test_shapes_have_as_many_parameters_as_published(name: str) -> None:
    member = FAMILY[name]
    architecture, config = synthetic.config_of(name, member)
    count = sum(np.prod(synthetic.shape_of(weight, member)) for weight in architecture.plan(config).weights())
    assert count == PUBLISHED[name]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A mixture of the family's form that is quick to run."""
    member = synthetic.Member(512, 8, 512, 6, (2, 4), experts=8, expert_width=256)
    monkeypatch.setattr(synthetic, "FAMILY", {"small": member})
    return "small"


@pytest.mark.parametrize(
    ("quant", "head"),
    [("q4_0", "q4_0"), ("q4_0", "q6_k"), ("q8_0", "q4_0"), ("f16", "q4_0"), *((m, "q4_0") for m in MIXTURES)],
)
def test_activations_stay_finite_and_routing_spreads(quant: str, head: str, small: str, tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    synthesise(small, path, quant, head)
    opened = checkpoint.read(path)
    assert read(path).metadata["lfm2moe.expert_count"] == 8
    kinds = {tensors[0].type for name, tensors in opened.weights.items() if name == "embed_tokens"}
    assert kinds == {"Q6_K" if quant in MIXTURES else (head if quant == "q4_0" else quant).upper()}
    ids = np.random.default_rng(3).permutation(60_000)[:96].tolist()
    with headrace.load(path) as model:
        logits = model.logits(ids)
    assert np.isfinite(logits).all()
    assert 0.1 < logits.std() < 10
    values = Reference(opened.plan, opened.weights).values(ids)
    for step, value in zip(opened.plan.steps, values, strict=True):
        if step.op == "route":
            load = np.bincount(value.experts.ravel(), minlength=8)
            assert load.max() < 3 * load.mean()


def test_its_tokenizer_has_the_familys_size_and_words(small: str, tmp_path: Path) -> None:
    synthesise(small, tmp_path / "small.gguf")
    tokenizer = checkpoint.read(tmp_path / "small.gguf").tokenizer
    assert tokenizer.vocab_size == 65_536 - 1136
    assert tokenizer.decode(tokenizer.encode("hello, the water 42")) == "hello, the water 42"
    assert len(tokenizer.encode("abcd")) == 1


def test_the_same_seed_gives_the_same_file(small: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        synthesise(small, tmp_path / name)
    synthesise(small, tmp_path / "c", seed=2)
    first, second, third = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != third


def test_what_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match=r"lfm2:9b.*lfm2:350m"):
        synthesise("lfm2:9b", tmp_path / "x")
    with pytest.raises(RequestInvalid, match="q5_k"):
        synthesise("lfm2:350m", tmp_path / "x", "q5_k")
    assert not list(tmp_path.iterdir())
