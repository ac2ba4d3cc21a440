"""Export: the trained weights as a Hugging Face folder, and from the same tensors the GGUF that ships."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Stored
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from recipes.nano.dialogues import TEMPLATE
from recipes.nano.model import Config
from recipes.nano.tokenizer import BOS, EOS, PAD, SPECIAL, load

_OPERATOR = {
    "conv": {"in_proj": "conv.in_proj.weight", "taps": "conv.conv.weight", "out_proj": "conv.out_proj.weight"},
    "full_attention": {
        **{f"{name}_proj": f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")},
        **{f"{name}_layernorm.weight": f"self_attn.{name}_layernorm.weight" for name in ("q", "k")},
    },
}
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


def hf_tensors(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The training module's tensors under the names and shapes of `Lfm2MoeForCausalLM`, one entry for each expert."""
    tensors = {
        "model.embed_tokens.weight": state["embed"],
        "model.embedding_norm.weight": state["embedding_norm.weight"],
    }
    for index, kind in enumerate(config.layer_types):
        ours, theirs = f"layers.{index}.", f"model.layers.{index}."
        for name in ("operator_norm.weight", "ffn_norm.weight"):
            tensors[theirs + name] = state[ours + name]
        for name, target in _OPERATOR[kind].items():
            tensor = state[f"{ours}operator.{name}"]
            tensors[theirs + target] = tensor[:, None] if name == "taps" else tensor
        dense = index < config.num_dense_layers
        part = _dense(state, ours) if dense else _experts(state, ours)
        tensors |= {theirs + "feed_forward." + name: tensor for name, tensor in part.items()}
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _dense(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {f"{name}.weight": state[f"{layer}feed_forward.{name}"] for name in ("w1", "w2", "w3")}


def _experts(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    part = {"gate.weight": state[layer + "feed_forward.gate"], "expert_bias": state[layer + "feed_forward.expert_bias"]}
    up, down = state[layer + "feed_forward.w13"], state[layer + "feed_forward.w2"]
    for expert in range(len(up)):
        w1, w3 = up[expert].chunk(2)
        part |= {f"experts.{expert}.{name}.weight": t for name, t in (("w1", w1), ("w2", down[expert]), ("w3", w3))}
    return part


def write_folder(folder: Path, tensors: dict[str, Tensor], config: Config, tokenizer: Tokenizer) -> None:
    """What `AutoModelForCausalLM` and `AutoTokenizer` load."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokens = {"bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS], "pad_token": SPECIAL[PAD]}
    _write(folder / "config.json", config.to_hf())
    _write(
        folder / "generation_config.json",
        {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "do_sample": False},
    )
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "clean_up_tokenization_spaces": False}
    _write(folder / "tokenizer_config.json", {**tokenizer_config, "model_max_length": config.max_position_embeddings})


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_gguf(path: Path, tensors: dict[str, Tensor], config: Config, tokenizer: Tokenizer) -> None:
    """Matrices in Q8_0; norms, taps, router and expert bias in F32. A file in use is replaced, not changed."""
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "lfm2moe")
    _add_metadata(writer, config)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in gguf_tensors(tensors, config).items():
        kept = tensor.ndim == 1 or name.endswith(("ffn_gate_inp.weight", "shortconv.conv.weight"))
        stored = Stored.F32 if kept else Stored.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)


def gguf_tensors(tensors: Mapping[str, Tensor], config: Config) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Names and shapes as llama.cpp has them: taps without their middle axis, the experts of a layer in one tensor."""
    named = {
        "token_embd.weight": tensors["model.embed_tokens.weight"],
        "token_embd_norm.weight": tensors["model.embedding_norm.weight"],
    }
    for index in range(len(config.layer_types)):
        layer, block = f"model.layers.{index}.", f"blk.{index}."
        for theirs, name in GGUF_NAMES.items():
            if layer + theirs in tensors:
                tensor = tensors[layer + theirs]
                named[block + name] = tensor[:, 0] if theirs == "conv.conv.weight" else tensor
        if index >= config.num_dense_layers:
            for theirs, name in GGUF_EXPERTS.items():
                each = [tensors[f"{layer}feed_forward.experts.{e}.{theirs}.weight"] for e in range(config.num_experts)]
                named[block + name] = torch.stack(each)
    return {name: tensor.float().contiguous().numpy() for name, tensor in named.items()}


def _add_metadata(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_name("nano")
    writer.add_description("A small LFM2-style mixture-of-experts model that uses Headrace's built-in tools")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    # nano copies figures: no token may be made less likely because it was already said.
    for key, value in {"temp": 0.0, "min_p": 0.0, "penalty_repeat": 1.0}.items():
        writer.add_float32(f"general.sampling.{key}", value)
    writer.add_block_count(len(c.layer_types))
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv([c.num_key_value_heads if kind == "full_attention" else 0 for kind in c.layer_types])
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_vocab_size(c.vocab_size)
    writer.add_shortconv_l_cache(c.conv_L_cache)
    writer.add_expert_count(c.num_experts)
    writer.add_expert_used_count(c.num_experts_per_tok)
    writer.add_expert_feed_forward_length(c.moe_intermediate_size)
    writer.add_leading_dense_block_count(c.num_dense_layers)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = [gguf.TokenType.CONTROL if piece in SPECIAL else gguf.TokenType.NORMAL for piece in pieces]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("lfm2")
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(TEMPLATE)


def export(work: Path, config: Config, target: Path) -> None:
    """The averaged weights of `work/state.pt`: the Hugging Face folder beside it, and the GGUF at `target`."""
    tokenizer = load(work / "tokenizer.json")
    tensors = hf_tensors(torch.load(work / "state.pt")["average"], config)
    write_folder(work / "export", tensors, config, tokenizer)
    write_gguf(target, tensors, config, tokenizer)
