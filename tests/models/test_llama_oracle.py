"""Llama: random models against transformers, in NumPy and natively, from folders and from GGUF files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import headrace
from headrace import _core, checkpoint
from headrace.convert import convert
from headrace.engine import core
from headrace.errors import FileInvalid, TemplateInvalid, Unsupported, UserError
from headrace.models import llama
from headrace.plan import fuse
from headrace.reference import Reference, State
from headrace.weights import gguf as gguf_file
from headrace.weights.fields import Fields
from tests import random_models
from tests.native.builders import logits_of

TOKENS = np.random.default_rng(0).integers(8, random_models.VOCABULARY, 150)
LLAMA3 = {
    "rope_theta": 20.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,  # so that of 4 frequencies one stays, one is stretched, two lie between
}
CASES: dict[str, Any] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "every head its own keys": {"num_key_value_heads": 6},
    "one kv head": {"num_key_value_heads": 1},
    "heads wider than their share": {"head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "attention bias": {"attention_bias": True},
    "large eps": {"rms_norm_eps": 0.1},
    "theta": {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
    "linear": {"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 3.0}},
    "llama3": {"rope_parameters": LLAMA3, "tie_word_embeddings": True},
    "llama3 untied": {"rope_parameters": LLAMA3, "num_key_value_heads": 3},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A case's model and its folder, made once."""
    known: dict[str, tuple[Any, Path]] = {}

    def make(name: str) -> tuple[Any, Path]:
        if name not in known:
            model = random_models.llama(**CASES[name])
            folder = random_models.save(model, tmp_path_factory.mktemp("llama"))
            known[name] = model, random_models.save_tokenizer(folder)
        return known[name]

    return make


Made = Callable[[str], tuple[Any, Path]]


def expected(model: Any) -> Any:
    return random_models.logits(model, TOKENS.tolist())


def assert_close(found: Any, logits: Any) -> None:
    """Within 1e-4 of the logits' range: float32 sums in another order, through all layers."""
    assert np.abs(found - logits).max() <= 1e-4 * np.ptp(logits)


def reference(path: Path) -> Reference:
    source = checkpoint.read(path)
    return Reference(source.plan, source.weights)


def native(path: Path) -> Any:
    source = checkpoint.read(path)
    vocab_size = source.backbone.vocab_size
    return core.build(source.plan, source.weights, vocab_size=vocab_size, blocks=8, threads=2, kv="fp32")


@pytest.mark.parametrize("name", CASES)
def test_numpy_whole(name: str, made: Made) -> None:
    model, folder = made(name)
    assert_close(reference(folder).logits(TOKENS), expected(model))


@pytest.mark.parametrize("name", CASES)
def test_numpy_in_chunks_and_token_by_token(name: str, made: Made) -> None:
    model, folder = made(name)
    oracle, state = reference(folder), State()
    pieces = [TOKENS[:7], TOKENS[7:8], TOKENS[8:140], *np.split(TOKENS[140:], 10)]
    assert_close(np.concatenate([oracle.logits(piece, state) for piece in pieces]), expected(model))


@pytest.mark.parametrize("name", CASES)
def test_fused_equals_unfused(name: str, made: Made) -> None:
    plain, fused = reference(made(name)[1]), reference(made(name)[1])
    fused.plan = fuse(plain.plan)
    assert len(fused.plan.steps) < len(plain.plan.steps) or plain.plan.steps[2].attributes["bias"]
    np.testing.assert_allclose(fused.logits(TOKENS), plain.logits(TOKENS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_native_whole_chunked_and_token_by_token(name: str, made: Made) -> None:
    """Near transformers, and the same bits however the text is cut."""
    model, folder = made(name)
    whole = logits_of(native(folder), TOKENS, [150])
    assert_close(whole, expected(model))
    for chunks in ([7, 1, 1, 130, 11], [1] * 150):
        np.testing.assert_array_equal(logits_of(native(folder), TOKENS, chunks), whole)


@pytest.mark.parametrize("isa", _core.isas())
def test_every_instruction_set(isa: str, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ISA", isa)
    model, folder = made("llama3")
    assert_close(logits_of(native(folder), TOKENS, [150]), expected(model))


# --- GGUF


def permuted(rows: Any, heads: int) -> Any:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def save_gguf(model: Any, path: Path, kind: str = "F32", **metadata: Any) -> Path:
    """The model as llama.cpp's converter writes it."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(random_models.tokens(config.vocab_size))
    writer.add_token_merges(["a b"])
    writer.add_token_types([3] * 8 + [1] * (config.vocab_size - 8))
    writer.add_eos_token_id(7)
    for key, value in metadata.items():
        writer.add_key_value(key.replace("__", "."), value, gguf.GGUFValueType.get_type(value))
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_freqs(config))
    for name, array in gguf_tensors(model):
        stored = gguf.GGMLQuantizationType[kind if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(model: Any) -> Sequence[tuple[str, Any]]:
    config, found = model.config, []
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "q_proj" in name:
            array = permuted(array, config.num_attention_heads)
        if "k_proj" in name:
            array = permuted(array, config.num_key_value_heads)
        for ours, theirs in GGUF_PARTS.items():
            name = name.replace(ours, theirs)
        found.append((name, array))
    return found


def rope_freqs(config: Any) -> Any:
    """`generate_extra_tensors` of llama.cpp's converter, as loops."""
    rope = config.rope_parameters
    low, high = (rope["original_max_position_embeddings"] / rope[f"{end}_freq_factor"] for end in ("low", "high"))
    factors = []
    for i in range(0, config.head_dim, 2):
        wavelength = 2 * np.pi * rope["rope_theta"] ** (i / config.head_dim)
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


GGUF_PARTS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "linear"])
def test_gguf(name: str, made: Made, tmp_path: Path) -> None:
    model, _ = made(name)
    assert_close(reference(save_gguf(model, tmp_path / "model.gguf")).logits(TOKENS), expected(model))


def test_gguf_with_linear_scaling(made: Made, tmp_path: Path) -> None:
    model, _ = made("linear")
    scaling = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 3.0}
    assert_close(reference(save_gguf(model, tmp_path / "model.gguf", **scaling)).logits(TOKENS), expected(model))


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F16"])
def test_quantised_rows_are_rearranged_whole(kind: str, tmp_path: Path) -> None:
    """A block lies within a row: the values are those of the folder's rows, each quantised by itself."""
    model = random_models.llama(hidden_size=64, num_attention_heads=4, intermediate_size=96)
    source = checkpoint.read(save_gguf(model, tmp_path / "model.gguf", kind))
    name = "layers.1.self_attn.k_proj"
    stored = gguf.GGMLQuantizationType[kind]
    rows = gguf.quants.quantize(model.state_dict()[f"model.{name}.weight"].numpy(), stored)
    (tensor,) = source.weights[name]
    np.testing.assert_array_equal(tensor.data, np.ascontiguousarray(rows).view(np.uint8).reshape(-1))


@pytest.mark.parametrize("name", ["plain", "tied", "biases", "one kv head", "llama3"])
def test_convert_writes_what_llama_cpp_would(name: str, made: Made, tmp_path: Path) -> None:
    model, folder = made(name)
    convert(folder, tmp_path / "ours.gguf", "f32")
    save_gguf(model, tmp_path / "theirs.gguf")
    ours, theirs = (gguf_file.read(tmp_path / file) for file in ("ours.gguf", "theirs.gguf"))
    assert ours.tensors.keys() == theirs.tensors.keys()
    for key, tensor in theirs.tensors.items():
        if key != "rope_freqs.weight":
            np.testing.assert_array_equal(ours.tensors[key].data, tensor.data, key)
    assert not {key for key in theirs.metadata if key.startswith("llama.")} - ours.metadata.keys()
    assert_close(reference(tmp_path / "ours.gguf").logits(TOKENS), expected(model))


# --- what is refused


BASE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"num_key_value_heads": 4}, "6 attention heads cannot share 4 key-value heads evenly"),
        ({"head_dim": 7}, "heads of 7 dimensions cannot be rotated"),
        ({"head_dim": 2**30}, "head_dim is 1073741824 but should be a whole number from 2 to 65536"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rotary embeddings of type 'yarn' are not supported"),
        ({"rope_scaling": [1]}, "rope_parameters should be an object"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": -1.0}}, "rope scaling factor is -1"),
        ({"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}}, "llama3 rope scaling should have"),
        ({"rope_theta": 0.0}, "rope_theta is 0 but should be positive"),
    ],
)
def test_configs_that_make_no_sense(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        llama.config_from_hf(Fields("config.json", BASE | changes))


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"llama__expert_count": 8}, "llama with experts"),
        ({"llama__rope__scaling__type": "yarn"}, "rotary embeddings scaled by 'yarn' are not supported"),
    ],
)
def test_files_of_other_models(metadata: dict[str, Any], sentence: str, made: Made, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=sentence):
        checkpoint.read(save_gguf(made("plain")[0], tmp_path / "model.gguf", **metadata))


def test_every_key_missing_or_of_any_value(made: Made, tmp_path: Path) -> None:
    """A stranger's metadata gives a config whose weights are all there, or a sentence; nothing else."""
    file = gguf_file.read(save_gguf(made("llama3")[0], tmp_path / "model.gguf"))
    values = [None, "x", "linear", True, -1, 0, 1, 5, 7, 2**31 - 1, 2**63, 0.0, -1.5, 1e300, float("nan"), np.arange(3)]
    keys = [key for key in file.metadata if key.startswith("llama.")]
    assert len(keys) >= 8
    for key in [*keys, "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.expert_count"]:
        for value in values:
            for tensors in (file.tensors, {n: t for n, t in file.tensors.items() if n != "rope_freqs.weight"}):
                try:
                    config = llama.config_from_gguf(Fields("x", file.metadata | {key: value}), tensors)
                    names = llama.plan(config).weights()
                    assert llama.weights_from_gguf(names, tensors, "x", config).keys() == set(names)
                except UserError:
                    continue


def test_factors_of_another_length(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "rope_freqs", lambda _: np.ones(3, np.float32))
    with pytest.raises(FileInvalid, match=r"rope_freqs\.weight should hold 4 positive numbers"):
        checkpoint.read(save_gguf(made("llama3")[0], tmp_path / "model.gguf"))


def test_old_spellings_of_rope_settings() -> None:
    """Llama 3's published config.json keeps theta at the top and the rest in `rope_scaling`."""
    scaling = {name: value for name, value in LLAMA3.items() if name != "rope_theta"}
    old = llama.config_from_hf(Fields("config.json", BASE | {"rope_theta": 20.0, "rope_scaling": scaling}))
    assert old == llama.config_from_hf(Fields("config.json", BASE | {"rope_parameters": LLAMA3}))
    assert 1 == old.rope_factors[0] < old.rope_factors[1] < old.rope_factors[2] < old.rope_factors[3] == 8


def test_a_model_without_a_template_goes_on_with_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary without the family's tokens has none of its dialects: it cannot chat."""
    tokens = [token.replace("<|im_", "<|turn_") for token in random_models.tokens(random_models.VOCABULARY)]
    monkeypatch.setattr(random_models, "tokens", lambda _: tokens)
    with headrace.load(save_gguf(random_models.llama(), tmp_path / "model.gguf")) as model:
        assert model.checkpoint.defaults.parameters.temperature == 0.6
        assert list(model.generate("ab", num_predict=1, temperature=0))[-1].usage.completion_tokens == 1
        with pytest.raises(TemplateInvalid, match="the file has none, and its vocabulary is not LFM2's"):
            list(model.chat([{"role": "user", "content": "Hi"}]))
