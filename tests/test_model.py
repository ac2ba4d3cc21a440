"""`headrace.load` on folders and files as people have them: the same logits as transformers, whatever the packaging."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import headrace
from headrace import Done, Text
from tests import random_models

TOKENS = np.random.default_rng(1).integers(8, random_models.VOCABULARY, 70).tolist()


def folder_of(model: Any, path: Path) -> Path:
    return random_models.save_tokenizer(random_models.save(model, path))


@pytest.fixture(scope="module")
def moe() -> Any:
    return random_models.moe()


@pytest.fixture
def folder(moe: Any, tmp_path: Path) -> Path:
    return folder_of(moe, tmp_path / "model")


def assert_logits(path: Path, model: Any, tolerance: float = 1e-4) -> None:
    expected = random_models.logits(model, TOKENS)
    with headrace.load(path) as loaded:
        found = loaded.logits(TOKENS)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (random_models.moe, {}),
        (random_models.moe, {"norm_topk_prob": False, "use_expert_bias": False, "num_dense_layers": 0}),
        (random_models.moe, {"conv_bias": True, "conv_L_cache": 4, "num_experts_per_tok": 8}),
        (random_models.moe, {"num_attention_heads": 3, "num_key_value_heads": 1, "tie_word_embeddings": False}),
        (random_models.moe, {"num_experts_per_tok": 1, "num_dense_layers": 3}),
        (random_models.moe, {"layer_types": ["full_attention", "conv", "conv", "full_attention"]}),
        (random_models.dense, {}),
        (random_models.dense, {"block_multiple_of": 24, "conv_bias": True, "tie_word_embeddings": False}),
        (random_models.dense, {"layer_types": ["conv"] * 4}),
    ],
)
def test_folder_equals_transformers(make: Callable[..., Any], changes: Any, tmp_path: Path) -> None:
    model = make(**changes)
    assert_logits(folder_of(model, tmp_path / "model"), model)


def test_gguf_equals_transformers(moe: Any, tmp_path: Path) -> None:
    assert_logits(random_models.save_gguf(moe, tmp_path / "model.gguf"), moe)


def test_gguf_with_the_other_spelling_of_the_output_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_models.dense()
    monkeypatch.setitem(random_models.GGUF_PARTS, "model.embedding_norm", "output_norm")
    assert_logits(random_models.save_gguf(model, tmp_path / "model.gguf"), model)


def test_gguf_untied(tmp_path: Path) -> None:
    model = random_models.dense(tie_word_embeddings=False)
    assert_logits(random_models.save_gguf(model, tmp_path / "model.gguf"), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_folders(dtype: torch.dtype, moe: Any, tmp_path: Path) -> None:
    """Weights of 16 bits are exact in float32; what is left is the fp16 cache (2^-11 of a key or value)."""
    rounded = random_models.moe()
    rounded.load_state_dict({name: tensor.to(dtype).float() for name, tensor in moe.state_dict().items()})
    folder = folder_of(rounded, tmp_path / "model")
    file = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    assert_logits(folder, rounded, tolerance=1e-3)


def test_sharded_folder(moe: Any, tmp_path: Path) -> None:
    moe.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_logits(random_models.save_tokenizer(tmp_path), moe)


def test_fused_experts(moe: Any, folder: Path) -> None:
    """As they are named in memory by transformers 5, and written by some trainers."""
    save_file(
        {n: t.contiguous() for n, t in moe.state_dict().items() if n != "lm_head.weight"}, folder / "model.safetensors"
    )
    assert any(name.endswith("gate_up_proj") for name in load_file(folder / "model.safetensors"))
    assert_logits(folder, moe)


def test_threads_and_chunks_change_no_bit(folder: Path) -> None:
    """70 tokens over block borders; one thread or two, whole or generated token by token."""
    with headrace.load(folder, threads=1) as one, headrace.load(folder, threads=2) as two:
        assert one.logits(TOKENS).tobytes() == two.logits(TOKENS).tobytes()
        assert one.logits(TOKENS)[:33].tobytes() == one.logits(TOKENS[:33]).tobytes()


def said(events: Any) -> tuple[str, Done]:
    *pieces, done = events
    return "".join(piece.text for piece in pieces if isinstance(piece, Text)), done


def test_generate_continues_greedily_as_transformers_does(moe: Any, folder: Path) -> None:
    with headrace.load(folder) as model:
        ids = model.tokenize("Hello", add_bos=True)
        text, done = said(model.generate("Hello", temperature=0, repeat_penalty=1.0, num_predict=12))
        assert ids[0] == 1
        assert done.usage.prompt_tokens == len(ids)
        for _ in range(done.usage.completion_tokens):
            ids.append(int(random_models.logits(moe, ids)[-1].argmax()))
        assert text == model.checkpoint.tokenizer.decode(ids[6:])


def test_same_seed_same_text_whatever_runs_beside_it(folder: Path) -> None:
    with headrace.load(folder) as model:

        def ask(seed: int) -> Any:
            return model.generate("Hello", temperature=1.5, min_p=0, seed=seed, num_predict=30)

        alone = said(ask(7))[0]
        beside = ask(8)
        next(beside)
        assert said(ask(7))[0] == alone
        assert said(ask(9))[0] != alone


def test_an_int8_cache_moves_the_logits_a_little(folder: Path) -> None:
    ids = list(range(5, 60))
    logits = []
    for kv in ("fp32", "int8"):
        with headrace.load(folder, kv=kv) as model:
            assert model.kv == kv
            logits.append(model.logits(ids))
    exact, rounded = logits
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.ptp(exact)
    with pytest.raises(headrace.RequestInvalid, match="kv is 'int3' but should be one of fp16, int8, fp32"):
        headrace.load(folder, kv="int3")


def test_the_window_is_an_error_with_both_numbers(folder: Path) -> None:
    with headrace.load(folder, num_ctx=64) as model:
        with pytest.raises(headrace.ContextExceeded, match="65 tokens but the context window holds 64"):
            list(model.generate("x" * 64))
        _, done = said(model.generate("x" * 40, temperature=0))
        assert done.reason in ("length", "stop")
        assert done.usage.completion_tokens <= 64 - 41


def test_a_stop_string_ends_before_itself(folder: Path) -> None:
    with headrace.load(folder) as model:
        text, _ = said(model.generate("Hello", temperature=0, num_predict=20))
        stop = text[5:8]
        cut, done = said(model.generate("Hello", temperature=0, num_predict=20, stop=[stop]))
        assert cut == text[: text.index(stop)]
        assert done.reason == "stop"


def test_without_template_or_generation_config_a_folder_still_chats(folder: Path) -> None:
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with headrace.load(folder) as model:
        said(model.chat([{"role": "user", "content": "Hi"}], num_predict=4))
        assert model.checkpoint.defaults.parameters.temperature == pytest.approx(0.3)
        assert model.checkpoint.defaults.parameters.min_p == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "has a config.json, and this one has none"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: edit(f, model_type="mamba"), "model_type 'mamba' is not supported, only lfm2, lfm2_moe, llama"),
        (lambda f: edit(f, num_experts_per_tok=99), "99 experts a token are asked of 8"),
        (lambda f: edit(f, layer_types=["conv"]), "layer_types should name the kinds of 4 layers"),
        (lambda f: edit(f, vocab_size="many"), "vocab_size is 'many' but should be a whole number"),
        (lambda f: edit(f, num_hidden_layers=5, layer_types=None), "layer_types is missing"),
        (lambda f: edit(f, num_experts=9, num_experts_per_tok=9), "top_k"),
        (lambda f: edit(f, hidden_size=64), "has inputs of width 80: expected 100"),
    ],
)
def test_a_broken_folder_says_what_is_wrong(break_it: Callable[[Path], None], sentence: str, folder: Path) -> None:
    break_it(folder)
    with pytest.raises(headrace.UserError, match=sentence):
        headrace.load(folder)


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(headrace.ModelNotFound, match=r"no model 'nanoo': did you mean nano\? `headrace list` shows"):
        headrace.load("nanoo")


@pytest.mark.parametrize("given", [{"num_ctx": 0}, {"num_ctx": 10**6}, {"threads": 0}, {"threads": "2"}])
def test_sizes_out_of_range(given: Any, folder: Path) -> None:
    with pytest.raises(headrace.RequestInvalid, match=next(iter(given))):
        headrace.load(folder, **given)


def test_parameters_come_from_the_file_then_the_config_then_the_family(moe: Any, folder: Path, tmp_path: Path) -> None:
    path = random_models.save_gguf(
        moe, tmp_path / "m.gguf", **{"general.sampling.temp": 0.7, "general.sampling.top_k": 9}
    )
    with headrace.load(path) as model:
        found = model.checkpoint.defaults.parameters
        assert (round(found.temperature, 6), found.top_k, found.min_p) == (0.7, 9, 0.15)
    (folder / "generation_config.json").write_text('{"temperature": 0.9, "repetition_penalty": 1.2, "top_p": null}')
    with headrace.load(folder) as model:
        found = model.checkpoint.defaults.parameters
        assert (found.temperature, found.repeat_penalty, found.top_p, found.min_p) == (0.9, 1.2, 1.0, 0.15)


def test_logits_reject_what_is_no_token(folder: Path) -> None:
    with headrace.load(folder) as model:
        for ids in ([], [random_models.VOCABULARY], [-1]):
            with pytest.raises(headrace.RequestInvalid):
                model.logits(ids)


def quantised(name: str) -> str:
    """As published files are: the embedding Q6_K, routers and taps F32, all other matrices Q4_0 or Q8_0."""
    if "ffn_gate_inp" in name or "shortconv.conv" in name:
        return "F32"
    if name.startswith("token_embd"):
        return "Q6_K"
    return "Q8_0" if "attn" in name else "Q4_0"


def test_gguf_types_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = random_models.moe(hidden_size=256, num_attention_heads=4, intermediate_size=288, moe_intermediate_size=96)
    monkeypatch.setattr(gguf.quants.Q6_K, "quantize_blocks", classmethod(q6_k_blocks), raising=False)
    path = random_models.save_gguf(wide, tmp_path / "wide.gguf", quantised)
    with headrace.load(path) as model:
        assert np.isfinite(model.logits(TOKENS)).all()


def q6_k_blocks(_: type, blocks: Any) -> Any:
    """Random Q6_K blocks with scales that keep the values small: the package reads the format and does not write it."""
    random = np.random.default_rng(0)
    count = len(blocks)
    scales = random.integers(-40, 40, (count, 16), dtype=np.int8).view(np.uint8)
    d = np.full((count, 1), 2e-3, np.float16).view(np.uint8).reshape(count, 2)
    return np.concatenate([random.integers(0, 256, (count, 192), dtype=np.uint8), scales, d], axis=1)
