"""Files as people have them: each converter's habits, one a row, run to the logits of the plain file. docs/files.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import headrace
from headrace import checkpoint
from headrace.cli import main
from tests import found_files, random_models
from tests.found_files import Habit, Pairs, Tensors, llama_cpp, ollama, write

ROOT = Path(__file__).parents[1]
IDS = np.random.default_rng(5).integers(8, found_files.WORDS, 40).tolist()
TEXT = "ab <|im_end|> [PAD0] [PAD90] abc"


def logits(path: Path) -> bytes:
    with headrace.load(path) as model:
        return model.logits(IDS).tobytes()


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `headrace show` says of a file, less what is its name; its page must not fail either."""
    main(["show", str(path)])
    assert "Quantisation" in capsys.readouterr().out
    main(["show", str(path), "--json"])
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    del facts["name"], facts["path"]
    return facts


# A mixture as llama.cpp can say it, with a theta that nobody would guess.
THETA = {"rope_parameters": {"rope_theta": 700.0, "rope_type": "default"}}
MAKE = {
    "dense": lambda: random_models.dense(**THETA),
    "moe": lambda: random_models.moe(**THETA, routed_scaling_factor=1.0),
}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {kind: make() for kind, make in MAKE.items()}


@pytest.fixture(scope="module")
def plain(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("plain")
    return {
        (kind, type_name): write(folder / f"{kind}-{type_name}.gguf", model, kind=type_name)
        for kind, model in models.items()
        for type_name in ("F32", "F16")
    }


@pytest.fixture
def moe(models: dict[str, Any]) -> Any:
    return models["moe"]


# --- GGUF: habits ----------------------------------------------------------------------------------------------------


def sets(**changes: Any) -> Habit:
    """Keys of the architecture, with _ for the last dot; None takes one away."""

    def edit(pairs: Pairs, _: Tensors) -> None:
        for key in [key for key in pairs if key.rpartition(".")[2] in changes]:
            value = changes[key.rpartition(".")[2]]
            if value is None:
                del pairs[key]
            else:
                pairs[key] = value

    return edit


def adds(**more: Any) -> Habit:
    return lambda pairs, _: pairs.update({key.replace("__", "."): value for key, value in more.items()})


def reorders(tensors: Tensors, names: list[str]) -> None:
    found = {name: tensors[name] for name in names}
    tensors.clear()
    tensors.update(found)


SAMPLING = {"general__sampling__temp": 0.7, "general__sampling__top_k": 9, "general__sampling__penalty_last_n": 64}
IMATRIX = {"quantize__imatrix__file": "imatrix.gguf", "quantize__imatrix__entries_count": 99}


def zero_head_counts(pairs: Pairs, _: Tensors) -> None:
    key = next(key for key in pairs if key.endswith("head_count_kv"))
    pairs[key] = np.zeros_like(pairs[key])


HABITS: dict[str, tuple[Any, Habit]] = {
    "llama.cpp": (llama_cpp, lambda *_: None),
    "llama.cpp, first release": (llama_cpp, sets(vocab_size=None, type=None, file_type=None)),
    "llama.cpp, the right width": (llama_cpp, sets(feed_forward_length=64)),
    "llama.cpp, no counts of experts": (llama_cpp, sets(expert_count=None, leading_dense_block_count=None)),
    "llama.cpp, other counts of experts": (llama_cpp, sets(expert_count=5, leading_dense_block_count=3)),
    "llama.cpp, no gating function": (llama_cpp, sets(expert_gating_func=None)),
    "llama.cpp, a scale of 0": (llama_cpp, adds(lfm2moe__expert_weights_scale=0.0)),
    "llama.cpp, quantised with an importance matrix": (llama_cpp, adds(**IMATRIX)),
    "llama.cpp, alignment 64": (llama_cpp, adds(general__alignment=64)),
    "llama.cpp, tensors backwards": (llama_cpp, lambda _, t: reorders(t, [*t][::-1])),
    "llama.cpp, 64-bit head counts": (llama_cpp, lambda p, _: p.update(_as(p, "head_count_kv", np.int64))),
    "llama.cpp, the other norm": (llama_cpp, lambda _, t: t.update(output_norm(t))),
    "llama.cpp, more tensors": (llama_cpp, lambda _, t: t.update({"rope_freqs.weight": np.ones(4, np.float32)})),
    "Ollama": (ollama, lambda *_: None),
    "Ollama, first release": (ollama, sets(vocab_size=None, parameter_count=None)),
    "Ollama, full_attn_idxs": (ollama, zero_head_counts),
    "Ollama, a list of ends": (ollama, adds(tokenizer__ggml__eos_token_ids=np.array([7, 2], np.int32))),
    "Ollama, a head that is the embedding": (ollama, lambda _, t: t.update({"lm_head.weight": t["token_embd.weight"]})),
    "Ollama, a scale of 1": (ollama, adds(lfm2moe__expert_weights_scale=1.0)),
}


def _as(pairs: Pairs, name: str, dtype: Any) -> Pairs:
    return {key: value.astype(dtype) for key, value in pairs.items() if key.endswith(name)}


def output_norm(tensors: Tensors) -> Tensors:
    return {"output_norm.weight": tensors.pop("token_embd_norm.weight")}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("converter", "habit"), HABITS.values(), ids=HABITS)
def test_a_converters_habit_changes_no_bit(
    converter: Any,
    habit: Habit,
    kind: str,
    models: dict[str, Any],
    plain: dict[tuple[str, str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, other = write(tmp_path / "found.gguf", models[kind], converter, habit), plain[kind, "F32"]
    assert logits(path) == logits(other)
    found, expected = shown(path, capsys), shown(other, capsys)
    if converter is ollama:
        assert found["context"] == {"default": 256, "largest": 256}
        expected["context"] = found["context"]
    assert found == expected
    read, plainly = checkpoint.read(path).tokenizer, checkpoint.read(other).tokenizer
    assert read.encode(TEXT) == plainly.encode(TEXT)
    assert read.ids() == plainly.ids() == list(range(found_files.WORDS))


@pytest.mark.parametrize("kind", MAKE)
def test_ollamas_own_types(
    kind: str, models: dict[str, Any], plain: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """All matrices in F16; norms, router, taps and bias in F32."""
    assert logits(write(tmp_path / "found.gguf", models[kind], ollama, kind="F16")) == logits(plain[kind, "F16"])


def test_an_older_header(plain: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    content = plain["moe", "F32"].read_bytes()
    (tmp_path / "old.gguf").write_bytes(content[:4] + struct.pack("<I", 2) + content[8:])
    assert logits(tmp_path / "old.gguf") == logits(plain["moe", "F32"])


def test_defaults_with_and_without_sampling_keys(
    moe: Any, plain: dict[tuple[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "found.gguf", moe, habit=adds(**SAMPLING))
    assert logits(path) == logits(plain["moe", "F32"])
    stated = shown(path, capsys)["defaults"]
    assert stated["temperature"] == {"value": pytest.approx(0.7), "origin": "general.sampling"}
    assert stated["top_k"] == {"value": 9, "origin": "general.sampling"}
    assert stated["repeat_last_n"] == {"value": 64, "origin": "general.sampling"}
    assert stated["min_p"] == {"value": 0.15, "origin": "model card"}
    unstated = shown(plain["moe", "F32"], capsys)["defaults"]
    assert unstated["temperature"] == {"value": 0.3, "origin": "model card"}


def test_ends_of_an_answer_come_from_every_key(moe: Any, tmp_path: Path) -> None:
    """Ids that no token has are not among them."""
    more = adds(
        tokenizer__ggml__eot_token_id=20,
        tokenizer__ggml__eom_token_id=21,
        tokenizer__ggml__eos_token_ids=np.array([22, 96, 9999], np.int32),
    )
    assert checkpoint.read(write(tmp_path / "found.gguf", moe, ollama, more)).end_ids == {2, 7, 20, 21, 22}


def test_show_says_what_runs(moe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "found.gguf", moe, habit=sets(expert_count=5, leading_dense_block_count=0))
    main(["show", str(path)])
    assert "8, 3 a token; 1 dense layers" in capsys.readouterr().out


def test_tokens_that_only_look_like_padding_are_tokens(moe: Any, tmp_path: Path) -> None:
    """[PAD1] without [PAD0], or not at the end, or not added: somebody meant it."""
    for tokens, kind in ((["[PAD1]"] * 1, 4), (["[PAD0]", "x!"], 4), (["[PAD0]"], 1)):

        def meant(pairs: Pairs, _: Tensors, tokens: list[str] = tokens, kind: int = kind) -> None:
            vocabulary, kinds = pairs["tokenizer.ggml.tokens"], pairs["tokenizer.ggml.token_type"]
            vocabulary[-len(tokens) :] = tokens
            kinds[-len(tokens) :] = kind

        read = checkpoint.read(write(tmp_path / "found.gguf", moe, habit=meant)).tokenizer
        assert read.ids()[-1] == read.vocab_size - 1 == random_models.VOCABULARY - 1


# --- GGUF: refusals --------------------------------------------------------------------------------------------------


def foreign(type_: gguf.GGMLQuantizationType) -> Habit:
    """A matrix in a type that Headrace has no layout of: zeros, as many as it takes."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[type_]

    def edit(_: Pairs, tensors: Tensors) -> None:
        tensors["blk.0.ffn_up.weight"] = (np.zeros((2, 256 // block * block_bytes), np.uint8), type_)

    return edit


KIND = gguf.GGMLQuantizationType
REFUSED: dict[str, tuple[Habit, dict[str, Any], str]] = {
    "IQ2_XXS": (foreign(KIND.IQ2_XXS), {}, "'blk.0.ffn_up.weight' is IQ2_XXS, which is not supported"),
    "TQ1_0": (foreign(KIND.TQ1_0), {}, "'blk.0.ffn_up.weight' is TQ1_0, which is not supported"),
    "MXFP4": (foreign(KIND.MXFP4), {}, "'blk.0.ffn_up.weight' is MXFP4, which is not supported"),
    "big-endian": (
        lambda *_: None,
        {"endianess": gguf.GGUFEndian.BIG},
        "the file is big-endian: get the little",
    ),
    "Ollama's theta of 0": (sets(freq_base=0.0), {}, r"lfm2moe.rope.freq_base is 0 but should be more than 0: convert"),
    "another split of the text": (
        sets(pre="qwen2"),
        {},
        r"the pre-tokenizer 'qwen2' \(tokenizer.ggml.pre\) is not supported, expected 'lfm2' or 'llama-bpe'",
    ),
    "a projector": (
        adds(general__architecture="clip"),
        {},
        "architecture 'clip' is not supported, only lfm2, lfm2moe",
    ),
    "an embedder": (adds(lfm2moe__attention__causal=False), {}, r"it attends both ways \(lfm2moe.attention.causal\)"),
    "a part of an audio model": (adds(lfm2moe__attention__sliding_window=30), {}, "a sliding window of 30 tokens"),
    "YaRN": (adds(lfm2moe__rope__scaling__type="yarn"), {}, "rotary embeddings of type 'yarn' .* are not supported"),
    "softmax": (sets(expert_gating_func=1), {}, r"expert_gating_func 1 is not supported, only 2 \(sigmoid\)"),
    "more experts a token than there are": (
        sets(expert_used_count=9, expert_count=16),
        {},
        "9 experts a token are asked of 8",
    ),
    "no router": (
        lambda _, t: [t.pop(name) for name in [*t] if "ffn_gate_inp" in name],
        {},
        r"no layer has a router \(ffn_gate_inp.weight\)",
    ),
    "no last norm": (lambda _, t: t.pop("token_embd_norm.weight"), {}, "token_embd_norm.weight is missing"),
}


@pytest.mark.parametrize(("habit", "options", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(habit: Habit, options: dict[str, Any], sentence: str, moe: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "found.gguf", moe, habit=habit, **options)
    with pytest.raises(headrace.UserError, match=sentence) as raised:
        headrace.load(path)
    assert str(path) in str(raised.value)


# --- GGUF in parts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(moe: Any, tmp_path: Path) -> list[Path]:
    return split(moe, tmp_path)


def split(model: Any, folder: Path, **options: Any) -> list[Path]:
    write(folder / "found.gguf", model, **{"split_max_tensors": 20, **options})
    return sorted(folder.glob("found-*.gguf"))


def test_any_part_opens_the_model(
    parts: list[Path], plain: dict[tuple[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [part.name for part in parts] == [f"found-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    expected, facts = logits(plain["moe", "F32"]), shown(plain["moe", "F32"], capsys)
    for part in parts:
        assert logits(part) == expected
        assert shown(part, capsys) == facts
        assert checkpoint.read(part).name == "found"


def test_a_first_part_of_metadata_alone(moe: Any, plain: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """As `llama-gguf-split --no-tensor-first-split` and the `gguf` package can write it."""
    parts = split(moe, tmp_path, small_first_shard=True)
    assert checkpoint.split.read(parts[-1])[0].tensors == {}
    assert logits(parts[0]) == logits(parts[-1]) == logits(plain["moe", "F32"])


def test_a_whole_file_with_the_name_of_a_part(plain: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """What `llama-gguf-split --merge` was given as its output's name."""
    path = tmp_path / "found-00001-of-00003.gguf"
    shutil.copy(plain["moe", "F32"], path)
    assert logits(path) == logits(plain["moe", "F32"])


def test_a_folder_of_gguf_files_is_to_choose_from(parts: list[Path]) -> None:
    sentence = f"this one has none: give one of its GGUF files, such as {parts[0].name}"
    with pytest.raises(headrace.ModelNotFound, match=sentence):
        headrace.load(parts[0].parent)


def gone(parts: list[Path]) -> Path:
    parts[1].unlink()
    return parts[0]


def two_gone(parts: list[Path]) -> Path:
    parts[0].unlink()
    parts[1].unlink()
    return parts[2]


def swapped(parts: list[Path]) -> Path:
    parts[1].rename(parts[1].with_name("spare"))
    parts[2].rename(parts[1])
    parts[1].with_name("spare").rename(parts[2])
    return parts[0]


def renamed(parts: list[Path]) -> Path:
    return parts[1].rename(parts[1].with_name("second.gguf"))


def of_other_count(parts: list[Path]) -> Path:
    return parts[1].rename(parts[1].with_name("found-00002-of-00004.gguf"))


def cut_off(parts: list[Path]) -> Path:
    os.truncate(parts[2], parts[2].stat().st_size - 40)
    return parts[0]


def of_another_model(parts: list[Path]) -> Path:
    """The last part of a model that was split at earlier places."""
    folder = parts[0].with_name("other")
    folder.mkdir()
    others = split(random_models.moe(), folder, split_max_tensors=18)
    shutil.copy(others[2], parts[2])
    return parts[0]


def too_few(parts: list[Path]) -> Path:
    """The last part of a split at later places."""
    folder = parts[0].with_name("other")
    folder.mkdir()
    others = split(random_models.moe(), folder, split_max_tensors=21)
    shutil.copy(others[2], parts[2])
    return parts[0]


def a_name_of_two_models(parts: list[Path]) -> Path:
    content = parts[2].read_bytes()
    assert content.count(b"blk.3.ffn_norm.weight") == 1
    parts[2].write_bytes(content.replace(b"blk.3.ffn_norm.weight", b"blk.3.ffn_norm.weigh_"))
    return parts[0]


BROKEN_PARTS: dict[str, tuple[Callable[[list[Path]], Path], str]] = {
    "missing": (gone, "the model has 3 parts and found-00002-of-00003.gguf is missing: put all in one folder"),
    "missing two": (two_gone, "the model has 3 parts and found-00001-of-00003.gguf and 1 more are missing"),
    "swapped": (swapped, "found-00002-of-00003.gguf: it holds part 3 of 3, not 2 of 3: parts were renamed or mixed"),
    "renamed": (renamed, "second.gguf: it is one of 3 parts of a model, and its name does not say which"),
    "of another count": (of_other_count, "00004.gguf: it is one of 3 parts of a model, and its name does not say"),
    "cut off": (cut_off, "found-00003-of-00003.gguf: tensor .* it is cut off, download it again"),
    "of another model": (of_another_model, "found-00003-of-00003.gguf: tensor .* is in found-00002-of-00003.gguf too"),
    "too few tensors": (too_few, "tensors should be in the 3 parts and .* are: they are of different models"),
    "a tensor under another name": (a_name_of_two_models, "the tensor blk.3.ffn_norm.weight is missing"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN_PARTS.values(), ids=BROKEN_PARTS)
def test_parts_that_do_not_belong_together(
    spoil: Callable[[list[Path]], Path], sentence: str, parts: list[Path]
) -> None:
    path = spoil(parts)
    with pytest.raises(headrace.FileInvalid, match=sentence):
        headrace.load(path)


# --- folders: every spelling -----------------------------------------------------------------------------------------

Config = dict[str, Any]


def spelt(*removed: str, **changes: Any) -> Callable[[Config], Config]:
    return lambda config: {key: value for key, value in (config | changes).items() if key not in removed}


NESTED = {"rope_theta": 700.0, "rope_type": "default"}
AT_TOP = ("rope_parameters", "rope_scaling")
FF_KEYS = ("block_ff_dim", "block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of")
SPELLINGS: dict[str, Callable[[Config], Config]] = {
    "theta at the top": spelt(*AT_TOP, rope_theta=700.0),
    "theta at the top, the rest null": spelt(rope_theta=700.0, rope_parameters=None, rope_scaling=None),
    "theta at the top, a default scaling": spelt(
        "rope_parameters", rope_theta=700.0, rope_scaling={"type": "default", "factor": 1.0}
    ),
    "theta nested": spelt("rope_theta", rope_parameters=NESTED),
    "theta nested without a type": spelt("rope_theta", rope_parameters={"rope_theta": 700.0}),
    "theta nested, its type null": spelt("rope_theta", rope_parameters=NESTED | {"rope_type": None}),
    "theta for each kind of layer": spelt("rope_theta", rope_parameters={"full_attention": NESTED}),
    "theta nested under the old name": spelt("rope_parameters", rope_scaling=NESTED),
    "theta in both, the nested one meant": spelt(rope_theta=10_000.0, rope_parameters=NESTED),
    "full_attn_idxs": spelt("layer_types", full_attn_idxs=[1, 3]),
    "full_attn_idxs, layer_types null": spelt(full_attn_idxs=[3, 1], layer_types=None),
    "layer_types and full_attn_idxs": spelt(full_attn_idxs=[1, 3]),
    "tied by the old flag": spelt("tie_word_embeddings", tie_embedding=True),
    "tied by both flags": spelt(tie_word_embeddings=True, tie_embedding=True),
    "tied, the old flag meant": spelt(tie_word_embeddings=False, tie_embedding=True),
    "tied by default": spelt("tie_word_embeddings", "tie_embedding"),
    "the older name of the width": spelt("intermediate_size", block_ff_dim=6656),
    "the width as it is": spelt(*FF_KEYS, block_auto_adjust_ff_dim=False),
    "no multiplier": spelt(block_ffn_dim_multiplier=None, block_multiple_of=7),
    "no keys of the width": spelt(*FF_KEYS, "intermediate_size"),
    "older names beside": spelt(block_norm_eps=1e-5, block_use_swiglu=True, conv_dim=48, theta=3.0, use_pos_enc=True),
    "no head_dim": spelt("head_dim"),
    "local experts": lambda config: {
        "num_local_experts" if key == "num_experts" else key: value for key, value in config.items()
    },
}


@pytest.fixture(scope="module")
def folders(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {
        kind: random_models.save_tokenizer(random_models.save(model, root / kind)) for kind, model in models.items()
    }


@pytest.fixture(scope="module")
def folder_logits(folders: dict[str, Path]) -> dict[str, bytes]:
    return {kind: logits(folder) for kind, folder in folders.items()}


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))


def respell(folder: Path, change: Callable[[Config], Config]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(change(config)))
    return folder


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_a_spelling_changes_no_bit(
    spelling: Callable[[Config], Config],
    kind: str,
    copied: Callable[[str], Path],
    folder_logits: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = respell(copied(kind), spelling)
    assert logits(folder) == folder_logits[kind]
    assert shown(folder, capsys)["attention"]["rope_theta"] == 700


MISREAD: dict[str, tuple[Callable[[Config], Config], str]] = {
    "another theta": (spelt(*AT_TOP, rope_theta=701.0), ""),
    "another layer attends": (spelt("layer_types", full_attn_idxs=[1, 2]), "layers.2.self_attn.q_proj.weight is missi"),
    "a head of its own": (spelt("tie_word_embeddings", tie_embedding=False), "lm_head.weight is missing: the embe"),
    "yarn": (spelt(rope_parameters=NESTED | {"rope_type": "yarn"}), "rotary embeddings of type 'yarn' are not supp"),
    "yarn under the old name": (spelt(rope_scaling={"type": "yarn"}), "rotary embeddings of type 'yarn' are not supp"),
    "a theta of 0": (spelt("rope_parameters", rope_theta=0.0), "rope_theta is 0 but should be more than 0"),
    "sliding windows": (spelt(layer_types=["conv", "sliding_attention"] * 2), "layers of kind 'sliding_attention'"),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("spelling", "sentence"), MISREAD.values(), ids=MISREAD)
def test_another_meaning_is_not_missed(
    spelling: Callable[[Config], Config],
    sentence: str,
    kind: str,
    copied: Callable[[str], Path],
    folder_logits: dict[str, bytes],
) -> None:
    """The spellings are read, and not merely survived."""
    folder = respell(copied(kind), spelling)
    if not sentence:
        assert logits(folder) != folder_logits[kind]
        return
    with pytest.raises(headrace.UserError, match=sentence):
        headrace.load(folder)


def fused(_: dict[str, Any], model: Any) -> dict[str, Any]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}


def apart(tensors: dict[str, Any], model: Any) -> dict[str, Any]:
    """One matrix for each expert, as in the published folders."""
    found = {}
    for name, tensor in fused(tensors, model).items():
        stem, _, part = name.rpartition(".experts.")
        for number, matrix in enumerate(tensor) if stem else ():
            one = f"{stem}.experts.{number}."
            if part == "down_proj":
                found[one + "w2.weight"] = matrix.contiguous()
            else:
                w1, w3 = matrix.chunk(2)
                found |= {one + "w1.weight": w1.contiguous(), one + "w3.weight": w3.contiguous()}
        if not stem:
            found[name] = tensor
    return found


def mlx(tensors: dict[str, Any], model: Any) -> dict[str, Any]:
    """As `mlx_lm.convert` writes a folder that it does not quantise."""
    names = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    found = {}
    for name, tensor in fused(tensors, model).items():
        stem, _, part = name.rpartition(".experts.")
        if part == "down_proj":
            found[f"{stem}.switch_mlp.down_proj.weight"] = tensor
        elif part == "gate_up_proj":
            for half, which in zip(tensor.chunk(2, dim=1), ("gate_proj", "up_proj"), strict=True):
                found[f"{stem}.switch_mlp.{which}.weight"] = half.contiguous()
        elif "conv.conv" in name:
            found[name] = tensor.transpose(1, 2).contiguous()
        else:
            found[re.sub(r"\.(w[123])\.", lambda match: f".{names[match[1]]}.", name)] = tensor
    return found


REPACKED: dict[str, Callable[[dict[str, Any], Any], dict[str, Any]]] = {
    "fused experts": fused,
    "separate experts": apart,
    "mlx-lm": mlx,
    "without the prefix": lambda tensors, _: {name.removeprefix("model."): t for name, t in tensors.items()},
    "taps without the middle axis": lambda tensors, _: {
        name: t.squeeze(1).contiguous() if name.endswith("conv.conv.weight") else t for name, t in tensors.items()
    },
    "a head beside a tied embedding": lambda tensors, _: tensors | {"lm_head.weight": tensors[EMBEDDING] * 2},
}
EMBEDDING = "model.embed_tokens.weight"


@pytest.mark.parametrize("repack", REPACKED.values(), ids=REPACKED)
def test_tensors_under_other_names(
    repack: Callable[[dict[str, Any], Any], dict[str, Any]],
    moe: Any,
    copied: Callable[[str], Path],
    folder_logits: dict[str, bytes],
) -> None:
    file = copied("moe") / "model.safetensors"
    save_file(repack(load_file(file), moe), file)
    assert logits(file.parent) == folder_logits["moe"]


def test_show_counts_the_experts_of_the_tensors(
    copied: Callable[[str], Path], folder_logits: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("moe")
    expected = shown(folder, capsys)
    respell(folder, spelt(num_experts=16))
    assert logits(folder) == folder_logits["moe"]
    assert shown(folder, capsys) == expected
    assert expected["experts"]["count"] == 8


# --- a file that shrinks ---------------------------------------------------------------------------------------------


def test_a_file_that_was_cut_off_after_it_was_opened(moe: Any, tmp_path: Path) -> None:
    """Without the check the next answer would end the process: its weights are no longer there (SIGBUS)."""
    path = write(tmp_path / "found.gguf", moe)
    source = checkpoint.read(path)
    with headrace.load(path) as model:
        before = model.logits(IDS)
        content = path.read_bytes()
        os.truncate(path, 4096)
        sentence = (
            rf"the file, another part of it, or a packed copy has lost {len(content) - 4096} bytes since it was opened"
        )
        with pytest.raises(headrace.FileInvalid, match=sentence):
            model.logits(IDS)
        with pytest.raises(headrace.FileInvalid, match=sentence):
            list(model.generate("ab"))
        with pytest.raises(headrace.FileInvalid, match=sentence):
            headrace.Model(source)
        path.write_bytes(content)
        np.testing.assert_array_equal(model.logits(IDS), before)


def test_the_page_names_tests_that_there_are() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "files.md").read_text()))
    written = {
        name
        for file in ("tests/test_found.py", "tests/test_vocabulary.py", "tests/engine/test_packed.py")
        for name in re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE)
    }
    assert len(named) > 20
    assert named <= written
