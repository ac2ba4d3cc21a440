"""Llama (Llama 3, SmolLM2 and others of this shape): grouped-query attention and SwiGLU in every layer, no more.

The formulae are those of `transformers` (models/llama); weights carry the names of the published safetensors files,
less their "model." and ".weight". There is no norm on queries and keys, and rotary frequencies may be scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import FileInvalid, Unsupported
from headrace.models import lfm2
from headrace.plan import Plan
from headrace.weights.fields import Fields
from headrace.weights.quantisation import dequantise
from headrace.weights.tensor import Tensor, Weights

GGUF_ARCHITECTURE = "llama"
ROPE_FACTORS = "rope_factors"
BIAS_OF = {"self_attn": "attention_bias", "mlp": "mlp_bias"}


@dataclass(frozen=True, slots=True)
class Config:
    """What the plan needs to know. `rope_factors` [head_dim / 2] divide the rotary frequencies; none: they are 1."""

    vocab_size: int
    hidden_size: int
    layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    rope_factors: tuple[float, ...]
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    max_position_embeddings: int

    @property
    def layer_types(self) -> tuple[str, ...]:
        return (lfm2.ATTENTION,) * self.layers


def config_from_hf(fields: Fields) -> Config:
    """Reads config.json."""
    if (activation := fields.text("hidden_act", "silu")) != "silu":
        raise Unsupported(f"{fields.source}: hidden_act {activation!r} is not supported, only 'silu'")
    hidden = fields.integer("hidden_size", least=1)
    heads = fields.integer("num_attention_heads", least=1)
    head_dim = fields.integer("head_dim", hidden // heads, least=2, most=1 << 16)
    theta, factors = _rope_from_hf(fields, head_dim)
    config = Config(
        vocab_size=fields.integer("vocab_size", least=1),
        hidden_size=hidden,
        layers=fields.integer("num_hidden_layers", least=1, most=lfm2.MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("num_key_value_heads", heads, least=1),
        head_dim=head_dim,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_factors=factors,
        attention_bias=fields.flag("attention_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
        tied=fields.flag("tie_word_embeddings", False),
        max_position_embeddings=fields.integer("max_position_embeddings", 2048, least=1),
    )
    return _checked(fields.source, config)


def config_from_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> Config:
    """Reads GGUF metadata; what the tensors' shapes say wins over what the metadata says."""
    key = GGUF_ARCHITECTURE + "."
    if fields.integer(key + "expert_count", 0):
        raise Unsupported(f"{fields.source}: llama with experts (Mixtral) is not supported, only dense models")
    heads = fields.integer(key + "attention.head_count", least=1)
    vocab, hidden = _matrix(fields.source, tensors, "token_embd.weight")
    head_dim = _matrix(fields.source, tensors, "blk.0.attn_q.weight")[0] // heads
    if (turned := fields.integer(key + "rope.dimension_count", head_dim)) != head_dim:
        raise Unsupported(f"{fields.source}: only {turned} of a head's {head_dim} dimensions are rotated")
    config = Config(
        vocab_size=vocab,
        hidden_size=hidden,
        layers=fields.integer(key + "block_count", least=1, most=lfm2.MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer(key + "attention.head_count_kv", heads, least=1),
        head_dim=head_dim,
        norm_eps=fields.number(key + "attention.layer_norm_rms_epsilon", 1e-5),
        rope_theta=fields.number(key + "rope.freq_base", 10_000.0),
        rope_factors=_factors_from_gguf(fields, tensors, head_dim),
        attention_bias="blk.0.attn_q.bias" in tensors,
        mlp_bias="blk.0.ffn_gate.bias" in tensors,
        tied="output.weight" not in tensors,
        max_position_embeddings=fields.integer(key + "context_length", 2048, least=1),
    )
    return _checked(fields.source, config)


def plan(config: Config) -> Plan:
    p = Plan()
    x = p.add("embed", weights=["embed_tokens"])
    for i in range(config.layers):
        w = f"layers.{i}."
        h = p.add("norm", x, weights=[w + "input_layernorm"], eps=config.norm_eps)
        x = p.add("add", x, attention(p, h, w + "self_attn.", config))
        h = p.add("norm", x, weights=[w + "post_attention_layernorm"], eps=config.norm_eps)
        x = p.add("add", x, mlp(p, h, w + "mlp.", config.mlp_bias))
    h = p.add("norm", p.add("select", x), weights=["norm"], eps=config.norm_eps)
    p.add("linear", h, weights=["embed_tokens" if config.tied else "lm_head"])
    return p


def attention(p: Plan, h: int, w: str, config: Config) -> int:
    bias = config.attention_bias
    a = p.add(
        "attend",
        *(linear(p, h, w + name, bias) for name in ("q_proj", "k_proj", "v_proj")),
        weights=[ROPE_FACTORS] if config.rope_factors else [],
        slot=p.count("attend"),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        theta=config.rope_theta,
        qk_norm=False,
        factors=bool(config.rope_factors),
    )
    return linear(p, a, w + "o_proj", bias)


def mlp(p: Plan, h: int, w: str, bias: bool) -> int:
    gate, up = linear(p, h, w + "gate_proj", bias), linear(p, h, w + "up_proj", bias)
    return linear(p, p.add("swiglu", gate, up), w + "down_proj", bias)


def linear(p: Plan, h: int, name: str, bias: bool) -> int:
    return p.add("linear", h, weights=[name, name + ".bias"] if bias else [name], bias=bias)


def gguf_metadata(config: Config, tensors: Weights) -> dict[str, Any]:
    """What `config_from_gguf` reads, as llama.cpp writes it."""
    values = {
        "block_count": config.layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": tensors["layers.0.mlp.gate_proj"][0].shape[0],
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope_theta,
        "vocab_size": config.vocab_size,
    }
    return {f"{GGUF_ARCHITECTURE}.{key}": value for key, value in values.items()}


def hf_config(config: Config, tensors: Weights) -> dict[str, Any]:
    """What `config_from_hf` and transformers read. Raises Unsupported for rotary factors that follow no known rule."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": tensors["layers.0.mlp.gate_proj"][0].shape[0],
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, **_hf_rope(config)},
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": config.max_position_embeddings,
    }


def _hf_rope(config: Config) -> dict[str, Any]:
    """The rule that gives these factors: none, one number for all, or Llama 3's with its published constants."""
    factors = config.rope_factors
    if not factors:
        return {"rope_type": "default"}
    if len(set(factors)) == 1:
        return {"rope_type": "linear", "factor": factors[0]}
    rule = {
        "rope_type": "llama3",
        "factor": max(factors),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    if max(factors) >= 1 and np.allclose(
        _llama3_factors(Fields("", rule), config.rope_theta, config.head_dim), factors, rtol=1e-5
    ):
        return rule
    raise Unsupported("the rotary factors (rope_freqs.weight) follow no rule that a config.json can say")


def weights_from_hf(names: list[str], tensors: Mapping[str, Tensor], source: str, config: Config) -> Weights:
    """Finds each weight of a plan among the tensors of a safetensors folder."""
    return {
        name: (_factors(config) if name == ROPE_FACTORS else lfm2.hf_tensor(name, tensors, source),) for name in names
    }


def weights_from_gguf(names: list[str], tensors: Mapping[str, Tensor], source: str, config: Config) -> Weights:
    """Finds each weight of a plan among the tensors of a GGUF file, rows of queries and keys in transformers' order."""
    found: dict[str, tuple[Tensor, ...]] = {}
    for name in names:
        if name == ROPE_FACTORS:
            found[name] = (_factors(config),)
            continue
        tensor = tensors.get(gguf_name(name))
        if tensor is None:
            raise FileInvalid(source, f"the tensor {gguf_name(name)} is missing")
        order = gguf_rows(name, config)
        found[name] = (tensor if order is None else _rearranged(tensor, np.argsort(order), source),)
    return found


def gguf_rows(name: str, config: Config) -> NDArray[np.intp] | None:
    """The rows of a weight in the order in which GGUF has them; None: as they are.

    llama.cpp turns dimension 2i of a query or key with 2i + 1 where transformers turns i with i + D / 2, so converters
    lay the two halves of each head one between the other.
    """
    part = name.partition("self_attn.")[2].removesuffix(".bias")
    if part not in ("q_proj", "k_proj"):
        return None
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    return np.arange(heads * config.head_dim).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)


def gguf_name(name: str) -> str:
    """The name under which GGUF files know a weight of the plan."""
    if whole := GGUF_NAMES.get(name):
        return whole
    _, layer, part = name.split(".", 2)
    suffix = "bias" if part.endswith(".bias") else "weight"
    return f"blk.{layer}.{GGUF_LAYER_NAMES[part.removesuffix('.bias')]}.{suffix}"


GGUF_NAMES = {
    "embed_tokens": "token_embd.weight",
    "norm": "output_norm.weight",
    "lm_head": "output.weight",
    ROPE_FACTORS: "rope_freqs.weight",
}
GGUF_LAYER_NAMES = {
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


def _rope_from_hf(fields: Fields, head_dim: int) -> tuple[float, tuple[float, ...]]:
    """Theta, and what divides the frequencies. Old configs keep theta at the top, newer ones in `rope_parameters`."""
    nested: Any = fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}
    if not isinstance(nested, dict):
        raise FileInvalid(fields.source, "rope_parameters should be an object")
    rope = Fields(fields.source, nested)
    theta = rope.number("rope_theta", fields.number("rope_theta", 10_000.0))
    if theta <= 0:
        raise FileInvalid(fields.source, f"rope_theta is {theta:g} but should be positive")
    match kind := nested.get("rope_type", nested.get("type", "default")):
        case "default":
            return theta, ()
        case "linear":
            return theta, _constant(rope.number("factor"), head_dim, fields.source)
        case "llama3":
            return theta, _llama3_factors(rope, theta, head_dim)
    known = "'default', 'linear' and 'llama3'"
    raise Unsupported(f"{fields.source}: rotary embeddings of type {kind!r} are not supported, only {known}")


def _llama3_factors(rope: Fields, theta: float, head_dim: int) -> tuple[float, ...]:
    """Llama 3's rule: waves that turned often in the first training stay, those that did not are stretched by `factor`,
    and between the two it changes smoothly (`_compute_llama3_parameters` of transformers)."""
    factor, low, high = (rope.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    length = rope.integer("original_max_position_embeddings", least=1)
    if factor < 1 or not 0 < low < high:
        raise FileInvalid(rope.source, "llama3 rope scaling should have a factor from 1, and low_freq_factor < high")
    wavelengths = 2 * pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((length / wavelengths - low) / (high - low), 0, 1)
    return tuple(float(number) for number in 1 / ((1 - smooth) / factor + smooth))


def _factors_from_gguf(fields: Fields, tensors: Mapping[str, Tensor], head_dim: int) -> tuple[float, ...]:
    key = GGUF_ARCHITECTURE + ".rope.scaling."
    if tensor := tensors.get(GGUF_NAMES[ROPE_FACTORS]):
        factors = tuple(map(float, dequantise(tensor).reshape(-1)))
        if len(factors) != head_dim // 2 or not all(0 < factor < float("inf") for factor in factors):
            raise FileInvalid(fields.source, f"rope_freqs.weight should hold {head_dim // 2} positive numbers")
        return factors
    match kind := fields.text(key + "type", "none"):
        case "none":
            return ()
        case "linear":
            return _constant(fields.number(key + "factor"), head_dim, fields.source)
    raise Unsupported(f"{fields.source}: rotary embeddings scaled by {kind!r} are not supported")


def _constant(factor: float, head_dim: int, source: str) -> tuple[float, ...]:
    if factor <= 0:
        raise FileInvalid(source, f"the rope scaling factor is {factor:g} but should be positive")
    return (factor,) * (head_dim // 2)


def _factors(config: Config) -> Tensor:
    values = np.array(config.rope_factors, np.float32)
    return Tensor(ROPE_FACTORS, "F32", values.shape, values.view(np.uint8))


def _rearranged(tensor: Tensor, order: NDArray[np.intp], source: str) -> Tensor:
    """A copy with its rows in `order`, under another name: what lies in the file, or in panels, are other rows."""
    if tensor.shape[0] != len(order):
        raise FileInvalid(source, f"the tensor {tensor.name} has {tensor.shape[0]} rows instead of {len(order)}")
    rows = tensor.data.reshape(len(order), -1)[order]
    return Tensor(f"{tensor.name} (rows rearranged)", tensor.type, tensor.shape, rows.reshape(-1))


def _matrix(source: str, tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in tensors:
        raise FileInvalid(source, f"the tensor {name} is missing")
    shape = tensors[name].shape
    if len(shape) != 2:
        raise FileInvalid(source, f"the tensor {name} has {len(shape)} axes instead of 2")
    return shape[0], shape[1]


def _checked(source: str, config: Config) -> Config:
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads % kv_heads:
        raise FileInvalid(source, f"{heads} attention heads cannot share {kv_heads} key-value heads evenly")
    if config.head_dim < 2 or config.head_dim % 2:
        raise FileInvalid(source, f"heads of {config.head_dim} dimensions cannot be rotated: expected an even number")
    return config
