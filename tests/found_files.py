"""GGUF files as converters of several ages write them, made with the `gguf` package from a `transformers` model.

A file here is `pairs` (its metadata, where a NumPy array has the item type that the converter gives it) and `tensors`
(float32, by GGUF name); a habit is a function that edits the two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests import random_models
from tests.random_models import SPECIAL

Pairs = dict[str, Any]
Tensors = dict[str, Any]
Habit = Callable[[Pairs, Tensors], object]

WORDS = 90  # tokens, of random_models.VOCABULARY rows
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
_ITEMS = {"i4": "INT32", "u4": "UINT32", "i8": "INT64", "f4": "FLOAT32"}


def architecture(model: Any) -> str:
    return "lfm2moe" if model.config.model_type == "lfm2_moe" else "lfm2"


def llama_cpp(model: Any) -> tuple[Pairs, Tensors]:
    """As convert_hf_to_gguf.py writes it today; the rows that no token has are `[PADn]`, unused."""
    c = model.config
    kinds = [CONTROL] * len(SPECIAL) + [1] * (WORDS - len(SPECIAL)) + [UNUSED] * (c.vocab_size - WORDS)
    pairs = {
        "general.type": "model",
        "general.file_type": 0,
        "general.quantization_version": 2,
        **_sizes(model, np.int32),
        "vocab_size": c.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": random_models.tokens(WORDS) + [f"[PAD{i}]" for i in range(WORDS, c.vocab_size)],
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_sep_token": False,
    }
    return _named(pairs, model), dict(random_models.gguf_tensors(model))


def ollama(model: Any) -> tuple[Pairs, Tensors]:
    """As `ollama create` writes it from a folder: its own keys, its name of the last norm, width and padding."""
    c = model.config
    kinds = [CONTROL] * len(SPECIAL) + [1] * (WORDS - len(SPECIAL)) + [USER_DEFINED] * (c.vocab_size - WORDS)
    pairs = {
        "general.file_type": 1,
        "general.quantization_version": 2,
        "general.parameter_count": 7,
        **_sizes(model, np.uint32),
        "vocab_size": c.vocab_size,
        "context_length": 256,  # the model says 512
        "attention.key_length": 8,
        "attention.value_length": 8,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": random_models.tokens(WORDS) + [f"[PAD{i}]" for i in range(c.vocab_size - WORDS)],
        "tokenizer.ggml.scores": np.arange(c.vocab_size, dtype=np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.seperator_token_id": 0,
    }
    tensors = dict(sorted(random_models.gguf_tensors(model)))
    tensors["output_norm.weight"] = tensors.pop("token_embd_norm.weight")
    return _named(pairs, model), tensors


def _sizes(model: Any, integer: Any) -> Pairs:
    c = model.config
    heads = [c.num_key_value_heads if kind == "full_attention" else 0 for kind in c.layer_types]
    pairs = {
        "block_count": c.num_hidden_layers,
        "context_length": c.max_position_embeddings,
        "embedding_length": c.hidden_size,
        "feed_forward_length": 12288,  # before the adjustment, as in files that exist
        "attention.head_count": c.num_attention_heads,
        "attention.head_count_kv": np.array(heads, integer),
        "attention.layer_norm_rms_epsilon": c.norm_eps,
        "rope.freq_base": c.rope_parameters["rope_theta"],
        "shortconv.l_cache": c.conv_L_cache,
    }
    if c.model_type == "lfm2_moe":
        pairs |= {
            "expert_count": c.num_experts,
            "expert_used_count": c.num_experts_per_tok,
            "expert_feed_forward_length": c.moe_intermediate_size,
            "leading_dense_block_count": c.num_dense_layers,
            "expert_gating_func": 2,
        }
    return pairs


def _named(pairs: Pairs, model: Any) -> Pairs:
    """Keys without a room of their own are the architecture's."""
    rooms = ("general.", "tokenizer.")
    return {key if key.startswith(rooms) else f"{architecture(model)}.{key}": v for key, v in pairs.items()}


def write(
    path: Path,
    model: Any,
    converter: Callable[[Any], tuple[Pairs, Tensors]] = llama_cpp,
    habit: Habit = lambda *_: None,
    kind: str = "F32",
    **writer_options: Any,
) -> Path:
    """The file, matrices in the type `kind`; with `split_max_tensors` it is several, whose names come from `path`."""
    pairs, tensors = converter(model)
    habit(pairs, tensors)
    writer = gguf.GGUFWriter(path, pairs.pop("general.architecture", architecture(model)), **writer_options)
    if alignment := pairs.pop("general.alignment", None):
        writer.add_custom_alignment(alignment)
    for key, value in pairs.items():
        add(writer, key, value)
    for name, array in tensors.items():
        if isinstance(array, tuple):  # bytes as they are, in a type of their own
            writer.add_tensor(name, array[0], raw_dtype=array[1])
            continue
        plain = array.ndim == 1 or "ffn_gate_inp" in name or "shortconv.conv" in name
        quantisation = gguf.GGMLQuantizationType["F32" if plain else kind]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), quantisation), raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case np.ndarray():
            item = gguf.GGUFValueType[_ITEMS[value.dtype.str[1:]]]
            writer.add_key_value(key, value.tolist(), gguf.GGUFValueType.ARRAY, sub_type=item)
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
