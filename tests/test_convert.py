"""`headrace convert`: what it writes gives the logits of what it read, and says what it cannot write."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import headrace
from headrace import checkpoint
from headrace.convert import convert, tensor_type
from headrace.reference import Reference
from headrace.weights.gguf import read
from tests import random_models

TOKENS = np.random.default_rng(3).integers(8, random_models.VOCABULARY, 20).tolist()


@pytest.fixture(scope="module")
def model() -> Any:
    return random_models.moe(hidden_size=256, num_attention_heads=4, intermediate_size=288, moe_intermediate_size=80)


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    folder = random_models.save_tokenizer(random_models.save(model, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    (folder / "generation_config.json").write_text('{"temperature": 0.25, "repetition_penalty": 1.1}')
    return folder


def logits(path: Path) -> Any:
    with headrace.load(path) as loaded:
        return loaded.logits(TOKENS)


def test_f32_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "f32")
    assert logits(tmp_path / "model.gguf").tobytes() == logits(folder).tobytes()


def test_f32_equals_the_gguf_packages_file(model: Any, folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "ours.gguf", "f32")
    random_models.save_gguf(model, tmp_path / "theirs.gguf")
    assert logits(tmp_path / "ours.gguf").tobytes() == logits(tmp_path / "theirs.gguf").tobytes()
    ours, theirs = (read(tmp_path / name) for name in ("ours.gguf", "theirs.gguf"))
    assert ours.tensors.keys() == theirs.tensors.keys()
    different = {key for key in theirs.metadata if key.startswith(("lfm2moe", "tokenizer.ggml"))} - ours.metadata.keys()
    assert not different
    assert ours.metadata["lfm2moe.feed_forward_length"] == 288


def test_counts_are_those_of_the_tensors(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_experts": 16}))
    convert(folder, tmp_path / "model.gguf", "f32")
    assert read(tmp_path / "model.gguf").metadata["lfm2moe.expert_count"] == 8


@pytest.mark.parametrize("outtype", ["f16", "bf16", "q8_0", "q4_0"])
def test_each_type_is_the_rounded_model(outtype: str, folder: Path, tmp_path: Path) -> None:
    """The file's values are the folder's, each rounded once: its logits are near, and nearer the finer the type."""
    convert(folder, tmp_path / "model.gguf", outtype)
    exact, rounded = (
        Reference(source.plan, source.weights, quantise_activations=False).logits(TOKENS)
        for source in (checkpoint.read(folder), checkpoint.read(tmp_path / "model.gguf"))
    )
    error = np.sqrt(np.mean((rounded - exact) ** 2)) / exact.std()
    assert error < {"f16": 0.02, "bf16": 0.1, "q8_0": 0.2, "q4_0": 1.2}[outtype]
    assert error > 0


def test_types_are_those_of_the_published_files() -> None:
    def kind(name: str, *shape: int, head: bool = False) -> str:
        return tensor_type(name, shape, "q4_0", head=head)

    assert kind("layers.0.conv.in_proj", 768, 256) == "Q4_0"
    assert kind("embed_tokens", 97, 256, head=True) == "Q6_K"
    assert kind("embed_tokens", 97, 96, head=True) == "Q8_0"
    assert kind("layers.0.feed_forward.gate", 8, 256) == "F32"
    assert kind("layers.0.conv.conv", 256, 3) == "F32"
    assert kind("layers.0.operator_norm", 256) == "F32"
    assert kind("layers.0.feed_forward.experts.w2", 256, 80) == "F16"


def test_the_tied_embedding_is_written_finer_than_the_rest(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "q4_0")
    tensors = read(tmp_path / "model.gguf").tensors
    assert tensors["token_embd.weight"].type == "Q6_K"
    assert tensors["blk.0.shortconv.in_proj.weight"].type == "Q4_0"


def test_template_and_sampling_travel(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "q8_0")
    source = checkpoint.read(tmp_path / "model.gguf")
    assert source.template.source == (folder / "chat_template.jinja").read_text()
    assert source.defaults.parameters.temperature == pytest.approx(0.25)
    assert source.defaults.parameters.repeat_penalty == pytest.approx(1.1)
    assert source.defaults.origins["temperature"] == "general.sampling"


@pytest.mark.parametrize(
    ("card", "licence"),
    [("---\nlicense: apache-2.0\n---\ntext", "apache-2.0"), ("license: mit", None), ("---\nlicense: other\nx", None)],
)
def test_the_licence_travels_from_the_cards_front_matter(
    card: str, licence: str | None, folder: Path, tmp_path: Path
) -> None:
    (folder / "README.md").write_text(card)
    convert(folder, tmp_path / "model.gguf", "q8_0")
    assert read(tmp_path / "model.gguf").metadata.get("general.license") == licence


def test_a_greedy_model_stays_greedy_and_keeps_its_penalty(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text('{"do_sample": false, "repetition_penalty": 1.0}')
    convert(folder, tmp_path / "model.gguf", "q8_0")
    parameters = checkpoint.read(tmp_path / "model.gguf").defaults.parameters
    assert (parameters.temperature, parameters.repeat_penalty) == (0.0, 1.0)


def test_the_routed_scale_travels_with_a_warning(folder: Path, tmp_path: Path) -> None:
    (warning,) = convert(folder, tmp_path / "model.gguf", "f32")
    assert "expert_weights_scale is 1.7" in warning
    assert "llama.cpp ignores it" in warning
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.fields["lfm2moe.expert_weights_scale"].contents() == pytest.approx(1.7)


@pytest.mark.parametrize(
    ("make", "changes", "named"),
    [
        (random_models.moe, {"conv_bias": True}, "conv_bias"),
        (random_models.moe, {"norm_topk_prob": False}, "norm_topk_prob"),
        (random_models.moe, {"tie_word_embeddings": False}, "untied"),
    ],
)
def test_what_gguf_cannot_say_is_refused_by_name(make: Any, changes: Any, named: str, tmp_path: Path) -> None:
    folder = random_models.save_tokenizer(random_models.save(make(**changes), tmp_path / "model"))
    with pytest.raises(headrace.Unsupported, match=named):
        convert(folder, tmp_path / "model.gguf", "f32")
    assert not list(tmp_path.glob("*.gguf*"))


def test_an_untied_dense_model_converts(tmp_path: Path) -> None:
    model = random_models.dense(tie_word_embeddings=False)
    folder = random_models.save_tokenizer(random_models.save(model, tmp_path / "model"))
    convert(folder, tmp_path / "model.gguf", "f32")
    assert logits(tmp_path / "model.gguf").tobytes() == logits(folder).tobytes()


def test_progress_counts_to_the_whole(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(folder, tmp_path / "model.gguf", "q8_0", lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_a_failed_conversion_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr("headrace.convert._encode", fail)
    with pytest.raises(OSError, match="no space left"):
        convert(folder, tmp_path / "model.gguf", "f32")
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_file_is_not_a_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(headrace.RequestInvalid, match=r"config\.json is not a folder"):
        convert(folder / "config.json", tmp_path / "model.gguf", "f32")


def test_config_survives_the_round_trip(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "f32")
    before, after = checkpoint.read(folder), checkpoint.read(tmp_path / "model.gguf")
    assert rounded(after.config) == rounded(before.config)
    assert after.tokenizer.encode("abc ab <|im_end|>") == before.tokenizer.encode("abc ab <|im_end|>")


def rounded(config: Any) -> Any:
    """GGUF keeps numbers in float32."""
    return [np.float32(v) if isinstance(v, float) else v for part in (config, config.backbone) for v in values(part)]


def values(part: Any) -> list[Any]:
    return [getattr(part, field.name) for field in dataclasses.fields(part) if field.name != "backbone"]
