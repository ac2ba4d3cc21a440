"""The recipe's training in miniature, and the shipped file in `transformers`."""

# ruff: noqa: E402 (the recipe needs packages that may be absent)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("faker", reason="the recipe's extra is not installed")
transformers = pytest.importorskip("transformers")
save_file = pytest.importorskip("safetensors.torch").save_file

import headrace
from headrace import checkpoint, nano
from headrace.convert import convert
from recipes.nano import export, tokenizer, train
from recipes.nano.model import MINIATURE, Nano
from recipes.nano.prefixed import Batch
from recipes.nano.start import initialise


@pytest.fixture(scope="module")
def words() -> tokenizer.Tokenizer:
    return tokenizer.train(seed=1, vocab_size=MINIATURE.vocab_size, prefixes=60)


def trainer(words: tokenizer.Tokenizer, seed: int = 1) -> train.Trainer:
    return train.Trainer(words, MINIATURE, train.Schedule(steps=8), seed)


def losses(made: train.Trainer, count: int) -> list[float]:
    data = made.data()
    return [float(made.update(*next(data))) for _ in range(count)]


def test_training_goes_on_to_the_same_losses(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    """Equal bits: after a stop the same batches meet the same weights, moments and averages."""
    torch.set_num_threads(1)
    whole = trainer(words)
    expected = losses(whole, 6)
    first = trainer(words)
    assert losses(first, 3) == expected[:3]
    first.save(tmp_path / "state.pt")
    second = trainer(words, seed=1)
    second.resume(tmp_path / "state.pt")
    assert losses(second, 3) == expected[3:]
    assert all(torch.equal(second.average[name], value) for name, value in whole.average.items())


def test_a_run_may_begin_with_another_ones_weights(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    """Its weights, and nothing else: the new run starts its own schedule and data."""
    torch.set_num_threads(1)
    first = trainer(words)
    losses(first, 2)
    first.save(tmp_path / "state.pt")
    second = trainer(words, seed=2)
    second.begin_with(tmp_path / "state.pt")
    assert all(torch.equal(value, second.model.state_dict()[name]) for name, value in first.model.state_dict().items())
    assert (second.step, second.tokens) == (0, 0)
    assert losses(second, 1) == losses(second_of(words, tmp_path / "state.pt"), 1)


def test_weights_between_two_runs(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    first = trainer(words)
    losses(first, 1)
    first.save(tmp_path / "first.pt")
    second = second_of(words, tmp_path / "first.pt")
    losses(second, 2)
    second.save(tmp_path / "second.pt")
    train.blend(tmp_path / "first.pt", tmp_path / "second.pt", 0.25, tmp_path / "state.pt")
    between = torch.load(tmp_path / "state.pt")
    assert between["place"]["step"] == 3
    for name, value in first.average.items():
        if value.is_floating_point():
            wanted = 0.75 * value + 0.25 * second.average[name]
            torch.testing.assert_close(between["average"][name], wanted, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(value, between["average"][name]) for name, value in first.average.items())


def test_a_run_may_begin_with_an_exported_file(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    """The same tokenizer and, within the rounding to Q8_0, the same logits; forms are told apart from their words."""
    torch.set_num_threads(1)
    first = trainer(words)
    losses(first, 1)
    export.write_folder(tmp_path / "nano", export.hf_tensors(first.model.state_dict(), MINIATURE), MINIATURE, words)
    for kind, tolerance in (("f32", 1e-6), ("q8_0", 0.005)):
        convert(tmp_path / "nano", tmp_path / f"{kind}.gguf", kind)
        read = tokenizer.of_gguf(tmp_path / f"{kind}.gguf")
        assert read.get_vocab() == words.get_vocab()
        assert read.encode("Book a table for 12, please").ids == words.encode("Book a table for 12, please").ids
        second = trainer(read, seed=2)
        second.begin_with(tmp_path / f"{kind}.gguf")
        batch = next(first.data())[0]
        with torch.no_grad():
            ours, theirs = (made.model.head(made.model(batch)) for made in (second, first))
        assert (ours - theirs).abs().mean() < tolerance * theirs.abs().max()  # a token may choose another expert
        assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() > 0.9
        own, words_ = second.model.embedding.own, second.model.embedding.words
        assert own.norm() < 0.3 * words_[second.model.embedding.word_of].norm()


def second_of(words: tokenizer.Tokenizer, state: Path) -> train.Trainer:
    made = trainer(words, seed=2)
    made.begin_with(state)
    return made


def test_another_seed_is_another_run(words: tokenizer.Tokenizer) -> None:
    torch.set_num_threads(1)
    assert losses(trainer(words, seed=1), 1) != losses(trainer(words, seed=2), 1)


def test_the_module_computes_what_transformers_computes(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    """Dialogues of several lengths after one prefix, in one pass, against each alone: float32 sums in another order."""
    module = Nano(MINIATURE)
    initialise(module, 3, tokenizer.pieces_of(words))
    for experts in module.experts():
        experts.expert_bias.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    export.write_folder(tmp_path, export.hf_tensors(module.state_dict(), MINIATURE), MINIATURE, words)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    batch = next(trainer(words).data())[0]
    batch = Batch(batch.prefix, batch.dialogues[:3])
    with torch.no_grad():
        ours = module.head(module(batch))
        lengths = [int(dialogue.count_nonzero()) for dialogue in batch.dialogues]
        for dialogue, got in zip(batch.dialogues, ours.split(lengths), strict=True):
            expected = theirs(torch.cat([batch.prefix, dialogue[: len(got)]])[None]).logits[0, len(batch.prefix) :]
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_ids_and_template_are_those_of_transformers(words: tokenizer.Tokenizer, tmp_path: Path) -> None:
    """tokenizer.json and chat_template.jinja in transformers and in Headrace, and the metadata of the GGUF."""
    module = Nano(MINIATURE)
    initialise(module, 3, tokenizer.pieces_of(words))
    tensors = export.hf_tensors(module.state_dict(), MINIATURE)
    export.write_folder(tmp_path, tensors, MINIATURE, words)
    convert(tmp_path, tmp_path / "nano.gguf", "q8_0")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Book a table for Zoë at Luigi's, 19:30; ID QX-1234.50"}]
    tools = [{"name": "book_table", "description": "Book it.", "parameters": {"type": "object", "properties": {}}}]
    text = theirs.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    for path in (tmp_path, tmp_path / "nano.gguf"):
        ours = checkpoint.read(path)
        assert ours.template.render(messages, tools=tools, add_generation_prompt=True) == text
        assert ours.tokenizer.encode(text) == expected
    assert len(expected) < len(text) / 2


def test_the_shipped_file_in_transformers(tmp_path: Path) -> None:
    """nano.gguf's values, dequantised, in `Lfm2MoeForCausalLM`: logits differ by the rounding of activations only.

    Where the router's choice is nearly a tie, that rounding may take another expert: so a few positions may be further
    off, never most of them.
    """
    folder = dequantised(nano.FILE, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with headrace.load("nano") as model:
        ids = model.tokenize("<|im_start|>user\nWhat is 37 * 12?<|im_end|>\n<|im_start|>assistant\n", add_bos=True)
        ours = model.logits(ids)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    assert ours.shape == expected.shape
    error = np.abs(ours - expected).max(1) / np.abs(expected).max()
    assert (error < 0.02).mean() >= 0.9
    assert error.mean() < 0.01
    assert (ours.argmax(1) == expected.argmax(1)).mean() >= 0.9


def dequantised(path: Path, folder: Path) -> Path:
    """A GGUF that the recipe wrote as a float32 folder of Hugging Face's, read by the `gguf` package."""
    reader = gguf.GGUFReader(path)
    values = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = {name: fields[f"lfm2moe.{key}"] for name, key in CONFIG.items()}
    kv_heads = fields["lfm2moe.attention.head_count_kv"]
    kinds = ["full_attention" if heads else "conv" for heads in kv_heads]
    config |= {
        "layer_types": kinds,
        "num_key_value_heads": max(kv_heads),
        "model_type": "lfm2_moe",
        "architectures": ["Lfm2MoeForCausalLM"],
    }
    tensors = {"model.embed_tokens.weight": values["token_embd.weight"]}
    tensors["model.embedding_norm.weight"] = values["token_embd_norm.weight"]
    for index in range(len(kinds)):
        layer, block = f"model.layers.{index}.", f"blk.{index}."
        for theirs, name in GGUF_NAMES.items():
            if block + name in values:
                tensor = values[block + name]
                tensors[layer + theirs] = tensor[:, None] if theirs == "conv.conv.weight" else tensor
        for theirs, name in GGUF_EXPERTS.items():
            for expert, tensor in enumerate(values.get(block + name, ())):
                tensors[f"{layer}feed_forward.experts.{expert}.{theirs}.weight"] = tensor
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    extra = {
        "tie_word_embeddings": True,
        "norm_topk_prob": True,
        "use_expert_bias": True,
        "conv_bias": False,
        "num_hidden_layers": len(kinds),
    }
    (folder / "config.json").write_text(json.dumps(config | extra))
    return folder


GGUF_NAMES = {
    "operator_norm.weight": "attn_norm.weight",
    "ffn_norm.weight": "ffn_norm.weight",
    "conv.in_proj.weight": "shortconv.in_proj.weight",
    "conv.conv.weight": "shortconv.conv.weight",
    "conv.out_proj.weight": "shortconv.out_proj.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.out_proj.weight": "attn_output.weight",
    "self_attn.q_layernorm.weight": "attn_q_norm.weight",
    "self_attn.k_layernorm.weight": "attn_k_norm.weight",
    "feed_forward.w1.weight": "ffn_gate.weight",
    "feed_forward.w2.weight": "ffn_down.weight",
    "feed_forward.w3.weight": "ffn_up.weight",
    "feed_forward.gate.weight": "ffn_gate_inp.weight",
    "feed_forward.expert_bias": "exp_probs_b.bias",
}
GGUF_EXPERTS = {"w1": "ffn_gate_exps.weight", "w2": "ffn_down_exps.weight", "w3": "ffn_up_exps.weight"}
CONFIG = {
    "vocab_size": "vocab_size", "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length", "num_dense_layers": "leading_dense_block_count",
    "num_attention_heads": "attention.head_count", "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "conv_L_cache": "shortconv.l_cache", "norm_eps": "attention.layer_norm_rms_epsilon", "rope_theta": "rope.freq_base",
    "max_position_embeddings": "context_length",
}  # fmt: skip


@pytest.mark.slow
def test_the_recipe_from_nothing_to_a_file_and_its_card(tmp_path: Path) -> None:
    """`all` in miniature, stopped in the middle and started again: data, tokenizer, training, file, figures, card."""
    command = [sys.executable, "-m", "recipes.nano"]
    options = ["--miniature", "--work", str(tmp_path / "run"), "--gguf", str(tmp_path / "nano.gguf"), "--each", "4"]
    subprocess.run([*command, "train", *options, "--steps", "100"], check=True)
    subprocess.run([*command, "all", *options, "--steps", "600"], check=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    told = [line["loss"] for line in lines if "loss" in line]
    assert [line["step"] for line in lines if "loss" in line] == list(range(25, 601, 25))
    assert told[-1] < 0.6 * told[0]
    assert "gates" in lines[-1]
    with headrace.load(str(tmp_path / "nano.gguf")) as model:
        assert list(model.chat([{"role": "user", "content": "Hello"}], num_predict=8))
    card = (tmp_path / "README.md").read_text()
    assert "one unseen tool, generated" in card
    assert (tmp_path / "curve.png").stat().st_size > 5000
