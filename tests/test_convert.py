"""`headrace convert`: what it writes gives the logits of what it read, and says what it cannot write."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import headrace
from headrace import checkpoint, cli
from headrace.convert import convert, merge, tensor_type
from headrace.models import lfm2
from headrace.reference import Reference
from headrace.weights import gguf_writer
from headrace.weights.fields import Fields
from headrace.weights.gguf import read
from headrace.weights.quantisation import dequantise
from headrace.weights.rounding import quantise
from headrace.weights.tensor import Tensor
from tests import found_files, random_models
from tests.hostile_files import TYPES, Entry, Gguf, array

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


def test_a_file_that_is_no_gguf(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(headrace.FileInvalid, match=r"config\.json: this is not a GGUF file"):
        convert(folder / "config.json", tmp_path / "model.gguf", "f32")


def test_config_survives_the_round_trip(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "f32")
    before, after = checkpoint.read(folder), checkpoint.read(tmp_path / "model.gguf")
    assert rounded(after.config) == rounded(before.config)
    assert after.tokenizer.encode("abc ab <|im_end|>") == before.tokenizer.encode("abc ab <|im_end|>")


@pytest.mark.parametrize("flag", ["--outtype", "--quantize"])
def test_the_command(flag: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["convert", str(folder), str(tmp_path / "floats.gguf"), flag, "bf16"])
    cli.main(["convert", str(tmp_path / "floats.gguf"), str(tmp_path / "model.gguf"), flag, "q8_0"])
    assert read(tmp_path / "model.gguf").metadata["general.file_type"] == 7
    assert "writing: 100%" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cli.main(["convert", str(folder), str(tmp_path / "model.gguf"), flag, "q8_0"])
    assert stopped.value.code == 2


# --- from a GGUF file of floats


@pytest.fixture
def floats(folder: Path, tmp_path: Path) -> Path:
    convert(folder, tmp_path / "floats.gguf", "f32")
    return tmp_path / "floats.gguf"


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (t.type, t.shape, t.data.tobytes()) for name, t in read(path).tensors.items()}


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("make", [random_models.moe, random_models.dense, random_models.llama])
def test_from_a_float_gguf_comes_what_comes_from_its_folder(make: Any, outtype: str, tmp_path: Path) -> None:
    model = make(hidden_size=256, num_attention_heads=4, tie_word_embeddings=make is not random_models.llama)
    folder = random_models.save_tokenizer(random_models.save(model, tmp_path / "model"))
    convert(folder, tmp_path / "floats.gguf", "f32")
    convert(folder, tmp_path / "wanted.gguf", outtype)
    convert(tmp_path / "floats.gguf", tmp_path / "found.gguf", outtype)
    assert tensors(tmp_path / "found.gguf") == tensors(tmp_path / "wanted.gguf")
    assert (tmp_path / "found.gguf").read_bytes() == (tmp_path / "wanted.gguf").read_bytes()


@pytest.mark.parametrize("between", ["f16", "bf16"])
def test_floats_of_16_bits_are_sources_too(between: str, floats: Path, tmp_path: Path) -> None:
    convert(floats, tmp_path / "half.gguf", between)
    convert(tmp_path / "half.gguf", tmp_path / "model.gguf", "q8_0")
    half, found = read(tmp_path / "half.gguf").tensors, read(tmp_path / "model.gguf").tensors
    name = "blk.0.shortconv.in_proj.weight"
    assert found[name].data.tobytes() == quantise(dequantise(half[name]), "Q8_0").tobytes()
    assert found["blk.0.shortconv.conv.weight"].type == "F32"


def test_the_header_is_kept_to_the_byte_but_for_the_types(tmp_path: Path) -> None:
    """Keys that nobody reads, in types that no other writer gives; what says that it is a part goes."""
    pairs = {
        "general.name": "A name",
        "of.no.use": array(8, 0),  # an empty list of strings, which the gguf package cannot write
        "a.wide.number": 2**40,
        "a.double": 0.1,
        "signed": array(5, 2, struct.pack("<ii", -1, 7)),
        "general.file_type": 0,
        "split.no": 0,
        "general.alignment": 64,
    }
    plain = random_models.save_gguf(random_models.dense(), tmp_path / "plain.gguf")
    parts = Gguf.of(plain)
    (tmp_path / "floats.gguf").write_bytes(with_alignment(Gguf(parts.pairs | pairs, parts.tensors), 64))
    convert(tmp_path / "floats.gguf", tmp_path / "model.gguf", "q8_0")
    before, after = read(tmp_path / "floats.gguf"), read(tmp_path / "model.gguf")
    assert raw(before).keys() - raw(after).keys() == {"split.no"}
    changed = {key for key, pair in raw(after).items() if raw(before).get(key) != pair}
    assert changed == {"general.file_type", "general.quantization_version"}
    assert after.metadata["general.file_type"] == 7
    kept = [key for key in raw(before) if key != "split.no"]
    assert list(raw(after))[: len(kept)] == kept
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.fields["a.wide.number"].contents() == 2**40
    assert {t.name: bytes(t.data.tobytes()) for t in reader.tensors} == {
        name: data for name, (_, _, data) in tensors(tmp_path / "model.gguf").items()
    }
    assert all(start % 64 == 0 for start in after.starts.values())


def raw(file: Any) -> dict[str, bytes]:
    content = file.path.read_bytes()
    return {key: content[begin:end] for key, (begin, end) in file.pairs.items()}


def with_alignment(parts: Gguf, alignment: int) -> bytes:
    """The file, with its tensors apart as a larger alignment wants it."""
    offset = 0
    for entry in parts.tensors:
        entry.offset = offset
        entry.data += bytes(-len(entry.data) % alignment)
        offset += len(entry.data)
    content = parts.content()
    header = len(content) - sum(len(entry.data) + -len(entry.data) % 32 for entry in parts.tensors)
    return content[:header] + bytes(-header % alignment) + content[header:]


def test_a_tensor_that_no_plan_knows_stays_as_it_is(tmp_path: Path) -> None:
    parts = Gguf.of(random_models.save_gguf(random_models.dense(), tmp_path / "plain.gguf"))
    parts.tensors.append(Entry("foreign.weight", [32, 2], TYPES["F32"], bytes(range(256))))
    (tmp_path / "floats.gguf").write_bytes(parts.content())
    convert(tmp_path / "floats.gguf", tmp_path / "model.gguf", "q8_0")
    assert tensors(tmp_path / "model.gguf")["foreign.weight"] == ("F32", (2, 32), bytes(range(256)))


@pytest.mark.parametrize("outtype", ["q4_0", "f32"])
def test_what_is_quantised_is_not_rounded_again(outtype: str, folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "model.gguf", "q8_0")
    with pytest.raises(
        headrace.Unsupported, match=r"is Q8_0.*, and what is rounded twice loses twice: convert the float"
    ):
        convert(tmp_path / "model.gguf", tmp_path / "again.gguf", outtype)
    assert not list(tmp_path.glob("again*"))


def test_a_gguf_file_of_another_family_is_named(tmp_path: Path) -> None:
    parts = Gguf.of(random_models.save_gguf(random_models.dense(), tmp_path / "plain.gguf"))
    (tmp_path / "other.gguf").write_bytes(Gguf(parts.pairs | {"general.architecture": "qwen"}, parts.tensors).content())
    with pytest.raises(headrace.Unsupported, match="architecture 'qwen' is not supported"):
        convert(tmp_path / "other.gguf", tmp_path / "model.gguf", "f16")


@pytest.mark.parametrize("small_first", [False, True])
def test_parts_become_one_file(small_first: bool, model: Any, tmp_path: Path) -> None:
    whole = found_files.write(tmp_path / "whole.gguf", model)
    found_files.write(tmp_path / "part.gguf", model, split_max_tensors=20, small_first_shard=small_first)
    second = sorted(tmp_path.glob("part-*.gguf"))[1]
    convert(second, tmp_path / "found.gguf", "q8_0")
    convert(whole, tmp_path / "wanted.gguf", "q8_0")
    assert (tmp_path / "found.gguf").read_bytes() == (tmp_path / "wanted.gguf").read_bytes()
    merge(second, tmp_path / "merged.gguf")
    assert (tmp_path / "merged.gguf").read_bytes() == whole.read_bytes()


def test_rows_are_rounded_a_few_at_a_time(floats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(floats, tmp_path / "wanted.gguf", "q4_0")
    monkeypatch.setattr("headrace.convert.PIECE", 1000)
    convert(floats, tmp_path / "found.gguf", "q4_0")
    assert (tmp_path / "found.gguf").read_bytes() == (tmp_path / "wanted.gguf").read_bytes()


def test_one_tensor_is_in_memory_and_never_the_model(tmp_path: Path) -> None:
    """The most memory that a process of its own takes, from a file far larger than what it may."""
    source = large(tmp_path / "large.gguf")
    model_bytes, tensor_bytes = source.stat().st_size, 4 * LARGE_ROWS * LARGE_WIDTH
    code = """
import resource, sys
from pathlib import Path
from headrace.convert import convert
convert(Path(sys.argv[1]), Path(sys.argv[3]), "q8_0")  # imports, and what any conversion takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(Path(sys.argv[2]), Path(sys.argv[3]), "q8_0")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    small = random_models.save_gguf(random_models.dense(), tmp_path / "small.gguf")
    arguments = [str(path) for path in (small, source, tmp_path / "out.gguf")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert model_bytes > 12 * tensor_bytes
    assert int(run.stdout) < 5 * tensor_bytes


LARGE_WIDTH, LARGE_ROWS, LARGE_LAYERS = 512, 4096, 24


def large(path: Path) -> Path:
    """A GGUF of dense layers with wide feed-forward matrices, all zeros."""
    config = random_models.DENSE | {
        "hidden_size": LARGE_WIDTH,
        "num_attention_heads": 8,
        "num_hidden_layers": LARGE_LAYERS,
        "layer_types": ["conv"] * (LARGE_LAYERS - 1) + ["full_attention"],
    }
    architecture = lfm2.config_from_hf(Fields("large", config))
    sizes = {"w1": (LARGE_ROWS, LARGE_WIDTH), "w3": (LARGE_ROWS, LARGE_WIDTH), "w2": (LARGE_WIDTH, LARGE_ROWS)}
    sizes |= {"embed_tokens": (random_models.VOCABULARY, LARGE_WIDTH), "q_layernorm": (64,), "k_layernorm": (64,)}
    sizes |= {"in_proj": (3 * LARGE_WIDTH, LARGE_WIDTH), "conv": (LARGE_WIDTH, 3), "q_proj": (LARGE_WIDTH, LARGE_WIDTH)}
    sizes |= {"out_proj": (LARGE_WIDTH, LARGE_WIDTH), "k_proj": (128, LARGE_WIDTH), "v_proj": (128, LARGE_WIDTH)}
    shapes = {name: sizes.get(name.rpartition(".")[2], (LARGE_WIDTH,)) for name in lfm2.plan(architecture).weights()}
    small = read(random_models.save_gguf(random_models.dense(), path.with_name("tokens.gguf")))
    words = {key: _plain(value) for key, value in small.metadata.items() if key.startswith("tokenizer")}
    weights = {name: (Tensor(name, "F32", shape, np.empty(0, np.uint8)),) for name, shape in shapes.items()}
    metadata = {"general.architecture": "lfm2", **lfm2.gguf_metadata(architecture, weights), **words}
    entries = [
        gguf_writer.Entry(lfm2.gguf_name(name), "F32", shape, partial(np.zeros, 4 * prod(shape), np.uint8))
        for name, shape in shapes.items()
    ]
    gguf_writer.write(path, metadata, entries)
    return path


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def rounded(config: Any) -> Any:
    """GGUF keeps numbers in float32."""
    return [np.float32(v) if isinstance(v, float) else v for part in (config, config.backbone) for v in values(part)]


def values(part: Any) -> list[Any]:
    return [getattr(part, field.name) for field in dataclasses.fields(part) if field.name != "backbone"]
