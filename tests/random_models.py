"""Small random models in the shapes of the family, made by `transformers`: the oracle of every architecture test."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Lfm2Config,
    Lfm2ForCausalLM,
    Lfm2MoeConfig,
    Lfm2MoeForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from headrace.text.tokenizer import LFM2_SPLIT

VOCABULARY = 97
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 56,
    "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE: dict[str, Any] = SMALL | {
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "num_dense_layers": 1,
    "routed_scaling_factor": 1.7,
}
LLAMA: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "layer_types"}
DENSE: dict[str, Any] = SMALL | {"intermediate_size": 96, "block_multiple_of": 8}


def dense(**changes: Any) -> Lfm2ForCausalLM:
    return _random(Lfm2ForCausalLM, Lfm2Config(**copy.deepcopy(DENSE | changes)))


def moe(**changes: Any) -> Lfm2MoeForCausalLM:
    return _random(Lfm2MoeForCausalLM, Lfm2MoeConfig(**copy.deepcopy(MOE | changes)))


def llama(**changes: Any) -> LlamaForCausalLM:
    return _random(LlamaForCausalLM, LlamaConfig(**copy.deepcopy(LLAMA | changes)))


def logits(model: Any, tokens: list[int]) -> Any:
    """float32 [tokens, vocab] by transformers' own forward pass."""
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def _random(kind: Any, config: Any) -> Any:
    """Every parameter random, so that a norm weight or a bias that is skipped shows; large enough to matter."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "conv.conv" in name or parameter.ndim == 1:
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("expert_bias"):
                buffer.normal_(0, 0.3)
    return model


def tokens(vocab_size: int) -> list[str]:
    """The family's first special tokens, the bytes that fit, and one token that is merged."""
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())[: vocab_size - len(SPECIAL) - 1], "ab"]


def save_tokenizer(folder: Path, vocab_size: int = VOCABULARY) -> Path:
    """A byte-level tokenizer of `tokens`, as tokenizer.json."""
    vocabulary = {token: i for i, token in enumerate(tokens(vocab_size))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    split = pre_tokenizers.Split(Regex(LFM2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def save_gguf(model: Any, path: Path, types: Callable[[str], str] = lambda _: "F32", **metadata: Any) -> Path:
    """The model as llama.cpp's converter would write it, each matrix in the type that `types(name)` gives."""
    config = model.config
    moe_model = config.model_type == "lfm2_moe"
    architecture = "lfm2moe" if moe_model else "lfm2"
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(12288)  # not what the tensors say, as in files that exist
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(
        [config.num_key_value_heads if kind == "full_attention" else 0 for kind in config.layer_types]
    )
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_vocab_size(config.vocab_size)
    if moe_model:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_leading_dense_block_count(config.num_dense_layers)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("lfm2")
    writer.add_token_list(tokens(config.vocab_size))
    writer.add_token_merges(["a b"])
    writer.add_token_types([3] * len(SPECIAL) + [1] * (config.vocab_size - len(SPECIAL)))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(7)
    for key, value in metadata.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for name, array in gguf_tensors(model):
        kind = gguf.GGMLQuantizationType[types(name) if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """GGUF name and float32 array of every tensor of a `transformers` model."""
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy()
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if name.endswith("gate_up_proj"):
            half = array.shape[1] // 2
            stem = f"blk.{name.split('.')[2]}.ffn_"
            yield stem + "gate_exps.weight", np.ascontiguousarray(array[:, :half])
            yield stem + "up_exps.weight", np.ascontiguousarray(array[:, half:])
        else:
            yield _gguf_name(name), array.squeeze(1) if "conv.conv" in name else array


def _gguf_name(name: str) -> str:
    for ours, theirs in GGUF_PARTS.items():
        name = name.replace(ours, theirs)
    return name


SPECIAL = (
    "<|pad|>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<|fim_pre|>",
    "<|fim_mid|>",
    "<|fim_suf|>",
    "<|im_start|>",
    "<|im_end|>",
)
GGUF_PARTS = {
    "model.embed_tokens": "token_embd",
    "model.embedding_norm": "token_embd_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "operator_norm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "conv.conv": "shortconv.conv",
    "feed_forward.experts.down_proj": "ffn_down_exps.weight",
    "feed_forward.expert_bias": "exp_probs_b.bias",
    "feed_forward.gate": "ffn_gate_inp",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down",
}
