"""`export`: the GGUF byte for byte; the folder value for value, as transformers and Headrace load it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import headrace
from headrace import checkpoint, nano
from headrace.convert import convert
from headrace.library import models
from headrace.library.create import create
from headrace.library.export import export
from headrace.library.modelfile import Modelfile
from headrace.library.models import Found
from headrace.library.names import Name
from headrace.library.store import Store
from headrace.preset import Preset
from headrace.reference import Reference
from headrace.weights import gguf, safetensors
from headrace.weights.quantisation import QUANTISED, dequantise
from tests import found_files, random_models

NAME = Name.parse("mine")
TOKENS = np.random.default_rng(3).integers(8, random_models.VOCABULARY, 20).tolist()
MAKERS = {"moe": random_models.moe, "dense": random_models.dense, "llama": random_models.llama}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def at(path: Path, **preset: Any) -> Found:
    """A model that lies anywhere."""
    return Found(NAME, "", path, Preset(**preset))


def file_of(kind: str, outtype: str, folder: Path, **changes: Any) -> tuple[Any, Path]:
    """A random model, by transformers, and as a GGUF file."""
    model = MAKERS[kind](**changes)
    source = random_models.save_tokenizer(random_models.save(model, folder / "source"))
    convert(source, folder / "model.gguf", outtype)
    return model, folder / "model.gguf"


def logits(path: Path) -> Any:
    with headrace.load(path) as loaded:
        return loaded.logits(TOKENS)


# --- GGUF


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_gguf_file_comes_back_byte_for_byte(store: Store, tmp_path: Path) -> None:
    create(NAME, store, Modelfile("nano", system="Be brief."))
    seen: list[tuple[int, int]] = []
    export(models.read(store, NAME), tmp_path / "out.gguf", progress=lambda *step: seen.append(step))
    assert (tmp_path / "out.gguf").read_bytes() == nano.FILE.read_bytes()
    assert seen[-1] == (nano.FILE.stat().st_size,) * 2


def test_what_was_damaged_since_is_not_given_out(store: Store, tmp_path: Path) -> None:
    create(NAME, store, Modelfile("nano"))
    found = models.read(store, NAME)
    content = bytearray(found.path.read_bytes())
    content[-1] ^= 1
    found.path.write_bytes(content)
    with pytest.raises(headrace.FileInvalid, match=r"and not sha256:.*: pull the model again"):
        export(found, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_a_file_of_hugging_faces_cache_is_held_to_its_name(tmp_path: Path) -> None:
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(nano.FILE.read_bytes())
    (tmp_path / "link.gguf").symlink_to(blob)
    with pytest.raises(headrace.FileInvalid, match=f"and not sha256:{'0' * 64}"):
        export(at(tmp_path / "link.gguf"), tmp_path / "out.gguf")
    export(at(nano.FILE), tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == nano.FILE.read_bytes()


def test_what_is_no_single_gguf_file(tmp_path: Path) -> None:
    found_files.write(tmp_path / "part.gguf", random_models.dense(), split_max_tensors=14)
    with pytest.raises(headrace.Unsupported, match=r"mine has \d files: copy them, or give the first to"):
        export(at(tmp_path / "part-00001-of-00003.gguf"), tmp_path / "out.gguf")
    with pytest.raises(headrace.Unsupported, match="mine is a folder of safetensors: `headrace convert` makes"):
        export(at(tmp_path), tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"form": "onnx"}, "format is 'onnx' but should be one of gguf, safetensors"),
        ({"form": "safetensors", "floats": "q8_0"}, "floats is 'q8_0' but should be one of f32, bf16, f16"),
        ({}, "taken exists: give a name that is free"),
    ],
)
def test_what_is_refused(options: dict[str, str], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(headrace.RequestInvalid, match=sentence):
        export(at(nano.FILE), tmp_path / "taken", **options)


@pytest.mark.parametrize("form", ["gguf", "safetensors"])
def test_where_nothing_can_be_written(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(headrace.RequestInvalid, match="none is not a folder: make it first"):
        export(at(nano.FILE), tmp_path / "none" / "out", form)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headrace.library.export._copy", full)
    monkeypatch.setattr("headrace.weights.safetensors_writer.write", full)
    with pytest.raises(headrace.RequestInvalid, match=r"out cannot be written \(No space left on device\): give"):
        export(at(nano.FILE), tmp_path / "out", form)
    assert not list(tmp_path.iterdir())


# --- safetensors


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("moe", {}),
        ("dense", {}),
        ("dense", {"tie_word_embeddings": False}),
        ("dense", {"head_dim": 12}),
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}),
    ],
)
def test_transformers_loads_the_folder_and_gives_our_logits(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model, file = file_of(kind, "f32", tmp_path, **changes)
    export(at(file), tmp_path / "out", "safetensors")
    loaded, problems = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not any(problems.values()), problems
    theirs = random_models.logits(loaded.eval(), TOKENS)
    assert np.abs(theirs - logits(file)).max() < 1e-4 * np.abs(theirs).max()
    assert np.array_equal(theirs, random_models.logits(model, TOKENS))
    assert type(AutoConfig.from_pretrained(tmp_path / "out")) is type(model.config)


@pytest.mark.parametrize("outtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("kind", MAKERS)
def test_headrace_loads_the_folder_and_no_bit_of_the_logits_differs(kind: str, outtype: str, tmp_path: Path) -> None:
    _, file = file_of(kind, outtype, tmp_path)
    export(at(file), tmp_path / "out", "safetensors")
    assert logits(tmp_path / "out").tobytes() == logits(file).tobytes()
    before, after = checkpoint.read(file), checkpoint.read(tmp_path / "out")
    assert after.end_ids == before.end_ids
    assert after.context_length == before.context_length


@pytest.mark.parametrize("outtype", ["f16", "bf16"])
def test_floats_are_the_files_to_the_bit(outtype: str, tmp_path: Path) -> None:
    _, file = file_of("moe", outtype, tmp_path)
    export(at(file), tmp_path / "out", "safetensors")
    ours, source = safetensors.read_folder(tmp_path / "out"), gguf.read(file).tensors
    taken = ours["model.layers.0.conv.in_proj.weight"], source["blk.0.shortconv.in_proj.weight"]
    assert [(tensor.type, tensor.data.tobytes()) for tensor in taken[:1]] == [(taken[1].type, taken[1].data.tobytes())]
    assert taken[0].type == outtype.upper()
    assert ours["model.layers.0.conv.conv.weight"].shape == (48, 1, 3)
    stack = source["blk.2.ffn_down_exps.weight"].unstack()
    for number, expert in enumerate(stack):
        name = f"model.layers.2.feed_forward.experts.{number}.w2.weight"
        assert ours[name].data.tobytes() == expert.data.tobytes()
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["dtype"]
        == {"f16": "float16", "bf16": "bfloat16"}[outtype]
    )


@pytest.mark.parametrize("outtype", ["q8_0", "q4_0"])
def test_quantised_weights_become_the_values_that_they_stand_for(outtype: str, tmp_path: Path) -> None:
    _, file = file_of("moe", outtype, tmp_path, hidden_size=256, num_attention_heads=4, moe_intermediate_size=64)
    export(at(file), tmp_path / "out", "safetensors")
    before, after = checkpoint.read(file), checkpoint.read(tmp_path / "out")
    assert after.weights.keys() == before.weights.keys()
    for name, tensors in before.weights.items():
        for one, other in zip(tensors, after.weights[name], strict=True):
            assert other.type == ("F32" if one.type in QUANTISED else one.type)
            assert np.array_equal(dequantise(one), dequantise(other)), name
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    theirs = random_models.logits(loaded, TOKENS)
    ours = Reference(before.plan, before.weights, quantise_activations=False).logits(TOKENS)
    assert np.abs(theirs - ours).max() < 1e-4 * np.abs(theirs).max()


def test_quantised_weights_may_be_rounded_once(tmp_path: Path) -> None:
    _, file = file_of("dense", "q8_0", tmp_path, hidden_size=64, num_attention_heads=4, intermediate_size=64)
    export(at(file), tmp_path / "out", "safetensors", "bf16")
    found = safetensors.read_folder(tmp_path / "out")
    wanted = torch.from_numpy(dequantise(gguf.read(file).tensors["blk.0.ffn_up.weight"])).to(torch.bfloat16)
    tensor = found["model.layers.0.feed_forward.w3.weight"]
    assert tensor.type == "BF16"
    assert tensor.data.tobytes() == wanted.view(torch.uint8).numpy().tobytes()
    assert found["model.embedding_norm.weight"].type == "F32"


def test_large_tensors_are_written_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = file_of("moe", "q8_0", tmp_path, hidden_size=64, num_attention_heads=4, moe_intermediate_size=32)
    export(at(file), tmp_path / "wanted", "safetensors")
    monkeypatch.setattr("headrace.library.export.PIECE", 100)
    monkeypatch.setattr("headrace.weights.safetensors_writer.SHARD_BYTES", 1)
    export(at(file), tmp_path / "found", "safetensors")
    wanted, found = (safetensors.read_folder(tmp_path / name) for name in ("wanted", "found"))
    assert {n: t.data.tobytes() for n, t in found.items()} == {n: t.data.tobytes() for n, t in wanted.items()}
    assert len(list((tmp_path / "found").glob("*.safetensors"))) == len(found)
    folders = [
        AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32) for name in ("wanted", "found")
    ]
    assert np.array_equal(*(random_models.logits(loaded.eval(), TOKENS) for loaded in folders))


def test_llama_3s_rotary_rule_is_found_again_and_others_are_refused(tmp_path: Path) -> None:
    rule = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16_384}
    _, file = file_of("llama", "f32", tmp_path, rope_parameters=rule, **sizes)
    export(at(file), tmp_path / "out", "safetensors")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rope_parameters"] == rule
    assert logits(tmp_path / "out").tobytes() == logits(file).tobytes()
    (tmp_path / "other").mkdir()
    _, other = file_of("llama", "f32", tmp_path / "other", rope_parameters=rule | {"low_freq_factor": 2.0}, **sizes)
    with pytest.raises(headrace.Unsupported, match=r"the rotary factors .* follow no rule"):
        export(at(other), tmp_path / "none", "safetensors")
    assert not list(tmp_path.glob("none*"))


# --- beside the weights


def test_what_a_model_is_used_with_goes_along(store: Store, tmp_path: Path) -> None:
    modelfile = Modelfile("nano", {"temperature": 0.25, "min_p": 0.1}, TEMPLATE, "s", ("MIT", "Apache"))
    create(NAME, store, modelfile)
    export(models.read(store, NAME), tmp_path / "out", "safetensors")
    assert (tmp_path / "out" / "LICENSE").read_text() == "MIT\n\nApache"
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == TEMPLATE
    generation = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (generation.temperature, generation.min_p, generation.do_sample) == (0.25, 0.1, True)
    again = checkpoint.read(tmp_path / "out")
    assert again.template.source == TEMPLATE
    assert again.defaults.parameters.temperature == 0.25


def test_a_greedy_model_stays_greedy(tmp_path: Path) -> None:
    export(at(nano.FILE), tmp_path / "out", "safetensors")
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert "temperature" not in generation
    assert GenerationConfig.from_pretrained(tmp_path / "out").do_sample is False
    before, after = checkpoint.read(nano.FILE), checkpoint.read(tmp_path / "out")
    assert after.defaults.parameters.temperature == before.defaults.parameters.temperature == 0
    assert after.template.source == before.template.source


def test_numbers_are_short(tmp_path: Path) -> None:
    _, file = file_of("dense", "f32", tmp_path)
    export(at(file), tmp_path / "out", "safetensors")
    assert '"norm_eps": 1e-05,' in (tmp_path / "out" / "config.json").read_text()


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Any]]:
    """nano's, and one of each way to split text: ours from the file, transformers' and ours from the folder."""
    place = tmp_path_factory.mktemp("tokenizers")
    files = {"nano": nano.FILE}
    for pre in ("llama-bpe", "smollm"):
        files[pre] = place / f"{pre}.gguf"
        tokens = {"tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": pre == "llama-bpe"}
        found_files.write(files[pre], random_models.dense(), habit=lambda pairs, _, tokens=tokens: pairs.update(tokens))
    found = {}
    for name, file in files.items():
        export(at(file), place / name, "safetensors")
        ours = checkpoint.read(file).tokenizer
        found[name] = ours, AutoTokenizer.from_pretrained(place / name), checkpoint.read(place / name).tokenizer
    return found


TEXTS = st.text(st.sampled_from("abcABC 123é\n\t<|>_'s…😀") | st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize("name", ["nano", "llama-bpe", "smollm"])
@given(TEXTS | st.sampled_from(["<|im_start|>user\nHi 12345<|im_end|>", "<|startoftext|>a", "it's we'LL  \r\n x"]))
def test_the_tokenizer_gives_the_same_ids_everywhere(
    name: str, tokenizers: dict[str, tuple[Any, Any, Any]], text: str
) -> None:
    ours, theirs, again = tokenizers[name]
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text) == again.encode(text)
    ids = ours.encode(text)
    assert theirs.decode(ids) == ours.decode(ids, skip_special=False)


@pytest.mark.parametrize("name", ["nano", "llama-bpe", "smollm"])
def test_transformers_puts_bos_where_we_do(name: str, tokenizers: dict[str, tuple[Any, Any, Any]]) -> None:
    ours, theirs, again = tokenizers[name]
    assert theirs("ab").input_ids == ours.encode("ab", add_bos=True) == again.encode("ab", add_bos=True)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
