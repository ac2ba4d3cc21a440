"""Dense LFM2 and LFM2.5: gated short convolutions and a few grouped-query attention layers, each followed by SwiGLU.

The formulae are those of `transformers` (models/lfm2); weights carry the names of the published safetensors files,
less their "model." and ".weight".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from headrace.errors import FileInvalid, Unsupported
from headrace.plan import Plan
from headrace.weights.fields import LARGEST, Fields
from headrace.weights.tensor import Tensor, Weights

GGUF_ARCHITECTURE = "lfm2"
ATTENTION, CONV = "full_attention", "conv"
MOST_LAYERS = 10_000  # far beyond any model: a config.json makes layers out of one number


@dataclass(frozen=True, slots=True)
class Config:
    """What the plan needs to know. Widths of the feed-forward layers are those of the tensors, not of the metadata."""

    vocab_size: int
    hidden_size: int
    layer_types: tuple[str, ...]
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    conv_taps: int
    conv_bias: bool
    tied: bool
    max_position_embeddings: int

    @property
    def layers(self) -> int:
        return len(self.layer_types)


def config_from_hf(fields: Fields) -> Config:
    """Reads config.json, in the spellings of every release so far."""
    hidden = fields.integer("hidden_size", least=1)
    heads = fields.integer("num_attention_heads", least=1)
    kv_heads = fields.integer("num_key_value_heads", heads, least=1)
    _check_heads(fields.source, heads, kv_heads)
    return Config(
        vocab_size=fields.integer("vocab_size", least=1),
        hidden_size=hidden,
        layer_types=_layer_types(fields),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=fields.integer("head_dim", hidden // heads, least=1),
        norm_eps=fields.number("norm_eps", 1e-5),
        rope_theta=_rope_theta(fields),
        conv_taps=fields.integer("conv_L_cache", 3, least=1),
        conv_bias=fields.flag("conv_bias", False),
        tied=fields.flag("tie_embedding", fields.flag("tie_word_embeddings", True)),
        max_position_embeddings=fields.integer("max_position_embeddings", 128_000, least=1),
    )


def config_from_gguf(fields: Fields, tensors: Mapping[str, Tensor], architecture: str = GGUF_ARCHITECTURE) -> Config:
    """Reads GGUF metadata; what the tensors' shapes say wins over what the metadata says."""
    key = architecture + "."
    _refuse_variants(fields, key)
    heads = fields.integer(key + "attention.head_count", least=1)
    vocab, hidden = _shape(fields.source, tensors, "token_embd.weight", 2)
    kv_heads = _kv_heads(fields, key, tensors)
    _check_heads(fields.source, heads, max(kv_heads))
    first_attention, first_conv = _first(kv_heads, True), _first(kv_heads, False)
    head_dim = hidden // heads
    if first_attention is not None:
        (head_dim,) = _shape(fields.source, tensors, f"blk.{first_attention}.attn_q_norm.weight", 1)
    taps = 3
    if first_conv is not None:
        _, taps = _shape(fields.source, tensors, f"blk.{first_conv}.shortconv.conv.weight", 2)
    return Config(
        vocab_size=vocab,
        hidden_size=hidden,
        layer_types=tuple(ATTENTION if count else CONV for count in kv_heads),
        num_attention_heads=heads,
        num_key_value_heads=max(kv_heads) or heads,
        head_dim=head_dim,
        norm_eps=fields.number(key + "attention.layer_norm_rms_epsilon", 1e-5),
        rope_theta=_positive(fields, key + "rope.freq_base", 1e6),
        conv_taps=taps,
        conv_bias=False,
        tied="output.weight" not in tensors,
        max_position_embeddings=fields.integer(key + "context_length", 128_000, least=1),
    )


def plan(config: Config) -> Plan:
    p = Plan()
    x = p.add("embed", weights=["embed_tokens"])
    for i in range(config.layers):
        x = mixer(p, x, i, config)
        h = p.add("norm", x, weights=[f"layers.{i}.ffn_norm"], eps=config.norm_eps)
        x = p.add("add", x, mlp(p, h, f"layers.{i}.feed_forward."))
    return head(p, x, config)


def mixer(p: Plan, x: int, layer: int, config: Config) -> int:
    """The first half of a layer: tokens exchange information by convolution or by attention."""
    w = f"layers.{layer}."
    h = p.add("norm", x, weights=[w + "operator_norm"], eps=config.norm_eps)
    if config.layer_types[layer] == ATTENTION:
        return p.add("add", x, attention(p, h, w + "self_attn.", config))
    return p.add("add", x, short_conv(p, h, w + "conv.", config))


def attention(p: Plan, h: int, w: str, config: Config) -> int:
    q, k, v = (p.add("linear", h, weights=[w + name]) for name in ("q_proj", "k_proj", "v_proj"))
    a = p.add(
        "attend",
        *(q, k, v),
        weights=[w + "q_layernorm", w + "k_layernorm"],
        slot=p.count("attend"),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        eps=config.norm_eps,
        theta=config.rope_theta,
    )
    return p.add("linear", a, weights=[w + "out_proj"])


def short_conv(p: Plan, h: int, w: str, config: Config) -> int:
    def weights(name: str) -> list[str]:
        return [w + name, w + name + ".bias"] if config.conv_bias else [w + name]

    bcx = p.add("linear", h, weights=weights("in_proj"), bias=config.conv_bias)
    c = p.add("conv", bcx, weights=weights("conv"), slot=p.count("conv"), bias=config.conv_bias)
    return p.add("linear", c, weights=weights("out_proj"), bias=config.conv_bias)


def mlp(p: Plan, h: int, w: str) -> int:
    gate, up = p.add("linear", h, weights=[w + "w1"]), p.add("linear", h, weights=[w + "w3"])
    return p.add("linear", p.add("swiglu", gate, up), weights=[w + "w2"])


def head(p: Plan, x: int, config: Config) -> Plan:
    """Logits of the rows asked for; "embedding_norm" is the final norm, despite its name."""
    h = p.add("norm", p.add("select", x), weights=["embedding_norm"], eps=config.norm_eps)
    p.add("linear", h, weights=["embed_tokens" if config.tied else "lm_head"])
    return p


def gguf_metadata(config: Config, tensors: Weights, architecture: str = GGUF_ARCHITECTURE) -> dict[str, Any]:
    """What `config_from_gguf` reads, as llama.cpp writes it. Raises Unsupported for what GGUF cannot say."""
    if config.conv_bias:
        raise Unsupported(
            "convolutions with a bias (conv_bias) cannot be written to GGUF: the format has no place for it"
        )
    heads = [config.num_key_value_heads if kind == ATTENTION else 0 for kind in config.layer_types]
    dense = [weights[0].shape[0] for name, weights in tensors.items() if name.endswith("feed_forward.w1")]
    values = {
        "block_count": config.layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": dense[0] if dense else 0,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": heads,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope_theta,
        "vocab_size": config.vocab_size,
        "shortconv.l_cache": config.conv_taps,
    }
    return {f"{architecture}.{key}": value for key, value in values.items()}


def hf_config(config: Config, tensors: Weights) -> dict[str, Any]:
    """What `config_from_hf` and transformers read; the width of w1 is given as it is, not to be derived."""
    dense = [weights[0].shape[0] for name, weights in tensors.items() if name.endswith("feed_forward.w1")]
    return {
        "architectures": ["Lfm2ForCausalLM"],
        "model_type": "lfm2",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "layer_types": list(config.layer_types),
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        **({"head_dim": config.head_dim} if config.head_dim * config.num_attention_heads != config.hidden_size else {}),
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "conv_L_cache": config.conv_taps,
        "conv_bias": config.conv_bias,
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": config.max_position_embeddings,
        **({"intermediate_size": dense[0], "block_auto_adjust_ff_dim": False} if dense else {}),
    }


def weights_from_hf(names: list[str], tensors: Mapping[str, Tensor], source: str, _: Config) -> Weights:
    """Finds each weight of a plan among the tensors of a safetensors folder."""
    return {name: (hf_tensor(name, tensors, source),) for name in names}


def weights_from_gguf(names: list[str], tensors: Mapping[str, Tensor], source: str, _: Config) -> Weights:
    """Finds each weight of a plan among the tensors of a GGUF file."""
    return {name: (gguf_tensor(name, tensors, source),) for name in names}


def hf_tensor(name: str, tensors: Mapping[str, Tensor], source: str) -> Tensor:
    suffix = "" if name.endswith("bias") else ".weight"
    stem, _, part = name.rpartition(".")
    for candidate in (name, f"{stem}.{MLX_NAMES[part]}") if part in MLX_NAMES else (name,):
        for prefix in ("model.", ""):
            if tensor := tensors.get(prefix + candidate + suffix):
                return squeeze_taps(tensor) if name.endswith("conv.conv") else tensor
    untied = ": the embedding serves if config.json says tie_word_embeddings is true" if name == "lm_head" else ""
    raise FileInvalid(source, f"the tensor {name}{suffix} is missing{untied}")


def gguf_tensor(name: str, tensors: Mapping[str, Tensor], source: str) -> Tensor:
    for candidate in gguf_names(name):
        if tensor := tensors.get(candidate):
            return tensor
    raise FileInvalid(source, f"the tensor {gguf_name(name)} is missing")


def gguf_name(name: str) -> str:
    """The name under which a weight of the plan is written to a GGUF file."""
    return next(gguf_names(name))


def gguf_rows(_: str, __: Config) -> None:
    """The rows of a weight in the order in which GGUF has them: as they are."""


def gguf_names(name: str) -> Iterator[str]:
    """The names by which GGUF files know a weight of the plan, the usual one first."""
    if whole := GGUF_NAMES.get(name):
        yield from whole
        return
    _, layer, part = name.split(".", 2)
    yield f"blk.{layer}.{GGUF_LAYER_NAMES[part]}"


# The output norm is named after the embedding by llama.cpp, and "output_norm" by Ollama's own converter.
GGUF_NAMES = {
    "embed_tokens": ("token_embd.weight",),
    "embedding_norm": ("token_embd_norm.weight", "output_norm.weight"),
    "lm_head": ("output.weight",),
}
GGUF_LAYER_NAMES = {
    "operator_norm": "attn_norm.weight",
    "ffn_norm": "ffn_norm.weight",
    "conv.in_proj": "shortconv.in_proj.weight",
    "conv.conv": "shortconv.conv.weight",
    "conv.out_proj": "shortconv.out_proj.weight",
    "self_attn.q_proj": "attn_q.weight",
    "self_attn.k_proj": "attn_k.weight",
    "self_attn.v_proj": "attn_v.weight",
    "self_attn.out_proj": "attn_output.weight",
    "self_attn.q_layernorm": "attn_q_norm.weight",
    "self_attn.k_layernorm": "attn_k_norm.weight",
    "feed_forward.w1": "ffn_gate.weight",
    "feed_forward.w3": "ffn_up.weight",
    "feed_forward.w2": "ffn_down.weight",
}


# As mlx-lm writes the folders that it converts.
MLX_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def squeeze_taps(tensor: Tensor) -> Tensor:
    """Conv1d keeps depthwise taps as [H, 1, K], and mlx-lm as [H, K, 1]: the same numbers in the same order."""
    if len(tensor.shape) == 3 and 1 in tensor.shape[1:]:
        return Tensor(tensor.name, tensor.type, (tensor.shape[0], tensor.shape[1] * tensor.shape[2]), tensor.data)
    return tensor


def feed_forward_width(fields: Fields) -> int:
    """The width of w1 and w3 that `Lfm2MLP` of transformers derives from config.json."""
    width = fields.integer("block_ff_dim", fields.integer("intermediate_size", 12288))
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return width
    width = int(2 * width / 3)
    if fields.values.get("block_ffn_dim_multiplier", 1.0) is None:
        return width
    multiple = fields.integer("block_multiple_of", 256, least=1)
    return multiple * ceil(int(fields.number("block_ffn_dim_multiplier", 1.0) * width) / multiple)


def _layer_types(fields: Fields) -> tuple[str, ...]:
    count = fields.integer("num_hidden_layers", least=1, most=MOST_LAYERS)
    if "layer_types" in fields:
        kinds = fields.values["layer_types"]
    elif "full_attn_idxs" in fields:
        places = fields.values["full_attn_idxs"]
        if not isinstance(places, list):
            raise FileInvalid(fields.source, "full_attn_idxs should be a list of the layers that attend")
        kinds = [ATTENTION if i in places else CONV for i in range(count)]
    else:
        raise FileInvalid(fields.source, "layer_types is missing: which layers attend and which convolve is not known")
    if not isinstance(kinds, list) or len(kinds) != count or not all(isinstance(kind, str) for kind in kinds):
        raise FileInvalid(fields.source, f"layer_types should name the kinds of {count} layers")
    if unknown := set(kinds) - {ATTENTION, CONV}:
        raise Unsupported(f"{fields.source}: layers of kind {min(unknown)!r} are not supported")
    return tuple(kinds)


def _rope_theta(fields: Fields) -> float:
    """Old configs keep theta at the top, newer ones in `rope_parameters`, some of them for each kind of layer."""
    theta = _positive(fields, "rope_theta", 1e6)
    for key in ("rope_scaling", "rope_parameters"):
        nested: Any = fields.values.get(key) or {}
        if isinstance(nested, dict):
            nested = nested.get(ATTENTION, nested)
        if not isinstance(nested, dict):
            raise FileInvalid(fields.source, f"{key} should be an object")
        kind = nested.get("rope_type") or nested.get("type") or "default"
        if kind != "default":
            raise Unsupported(f"{fields.source}: rotary embeddings of type {kind!r} are not supported, only 'default'")
        theta = _positive(Fields(fields.source, nested), "rope_theta", theta)
    return theta


def _positive(fields: Fields, key: str, default: float) -> float:
    """Ollama's first converter wrote a theta of 0 where it did not know the spelling: nothing can be made of that."""
    value = fields.number(key, default)
    if value <= 0:
        raise FileInvalid(fields.source, f"{key} is {value:g} but should be more than 0: convert the model again")
    return value


def _kv_heads(fields: Fields, key: str, tensors: Mapping[str, Tensor]) -> list[int]:
    """Key-value heads of each layer; 0 marks a convolution.

    Ollama's converter writes only zeros for a model whose config.json has `full_attn_idxs`: there the tensors know.
    """
    count = fields.integer(key + "block_count", least=1)
    value = fields.values.get(key + "attention.head_count_kv")
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in "iu":
        raise FileInvalid(fields.source, f"{key}attention.head_count_kv should be an array of one number per layer")
    heads = [int(number) for number in value]
    if len(heads) != count:
        raise FileInvalid(fields.source, f"{key}attention.head_count_kv has {len(heads)} numbers for {count} layers")
    if not all(0 <= number <= LARGEST for number in heads):
        raise FileInvalid(fields.source, f"{key}attention.head_count_kv has a number out of range")
    if not any(heads):
        heads = [_attention_heads(fields.source, tensors, layer) for layer in range(count)]
    if len(set(heads) - {0}) > 1:
        raise Unsupported(f"{fields.source}: attention layers with different numbers of key-value heads")
    return heads


def _refuse_variants(fields: Fields, key: str) -> None:
    """Of the same architecture to llama.cpp, and other models to us: embedders, audio, stretched windows."""
    if not fields.flag(key + "attention.causal", True):
        raise Unsupported(
            f"{fields.source}: it attends both ways ({key}attention.causal), so it embeds and never writes"
        )
    if window := fields.integer(key + "attention.sliding_window", 0):
        raise Unsupported(f"{fields.source}: attention in a sliding window of {window} tokens is not supported")
    if (scaling := fields.text(key + "rope.scaling.type", "none")) != "none":
        raise Unsupported(
            f"{fields.source}: rotary embeddings of type {scaling!r} ({key}rope.scaling.type) "
            "are not supported, only 'none'"
        )


def _attention_heads(source: str, tensors: Mapping[str, Tensor], layer: int) -> int:
    """How many key-value heads the tensors of a layer have: 0 where it has no keys."""
    name = f"blk.{layer}.attn_{{}}.weight"
    if name.format("k") not in tensors:
        return 0
    (head_dim,) = _shape(source, tensors, name.format("k_norm"), 1)
    rows, _ = _shape(source, tensors, name.format("k"), 2)
    return rows // head_dim


def _check_heads(source: str, heads: int, kv_heads: int) -> None:
    if kv_heads and heads % kv_heads:
        raise FileInvalid(source, f"{heads} attention heads cannot share {kv_heads} key-value heads evenly")


def _shape(source: str, tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors:
        raise FileInvalid(source, f"the tensor {name} is missing")
    if len(shape := tensors[name].shape) != axes:
        raise FileInvalid(source, f"the tensor {name} has {len(shape)} axes instead of {axes}")
    return shape


def _first(kv_heads: list[int], attention_layer: bool) -> int | None:
    return next((i for i, count in enumerate(kv_heads) if (count > 0) is attention_layer), None)
