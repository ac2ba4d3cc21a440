"""The shapes of the family's published models, and what follows from them: parameters, sizes of files, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType, ModuleType
from typing import Any

from headrace.engine.core import BLOCK_TOKENS
from headrace.models import lfm2, lfm2_moe
from headrace.weights.fields import Fields
from headrace.weights.quantisation import nbytes

VOCABULARY = 65_536  # rows of the embedding; LFM2.5-2.6B and LFM2.5-8B-A1B have more


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the family: `attention` are its attention layers, `width` that of its dense feed-forward layers."""

    hidden_size: int
    heads: int
    width: int
    layers: int
    attention: tuple[int, ...]
    experts: int = 0
    expert_width: int = 0
    vocabulary: int = VOCABULARY


KV_HEADS, HEAD_DIM = 8, 64
KV_BYTES = 2  # of a number in the cache, in half precision

_DENSE = (2, 5, 8, 10, 12, 14)
FAMILY: Mapping[str, Member] = MappingProxyType(
    {
        "lfm2:350m": Member(1024, 16, 4608, 16, _DENSE),
        "lfm2:700m": Member(1536, 24, 6912, 16, _DENSE),
        "lfm2:1.2b": Member(2048, 32, 8192, 16, _DENSE),
        "lfm2:2.6b": Member(2048, 32, 10752, 30, (2, 5, 9, 13, 17, 21, 24, 27)),
        "lfm2:8b": Member(2048, 32, 7168, 24, (2, 6, 10, 14, 18, 21), experts=32, expert_width=1792),
        # Its attention layers are not published, only how many they are.
        "lfm2:24b": Member(2048, 32, 11776, 40, tuple(range(2, 40, 4)), experts=64, expert_width=1536),
    }
)
# The next generation: the same shapes, but another vocabulary in 2.6B and 8B-A1B.
FAMILY_25: Mapping[str, Member] = MappingProxyType(
    {
        "lfm2.5:350m": FAMILY["lfm2:350m"],
        "lfm2.5:1.2b": FAMILY["lfm2:1.2b"],
        "lfm2.5:2.6b": replace(FAMILY["lfm2:2.6b"], vocabulary=128_000),
        "lfm2.5:8b": replace(FAMILY["lfm2:8b"], vocabulary=128_000),
    }
)


def parameters(member: Member) -> int:
    return sum(map(prod, _shapes(member).values()))


def weights_bytes(member: Member, quant: str = "q4_0", head: str = "q6_k") -> int:
    """Of all tensors, in a GGUF file as it is published; its header takes two or three megabytes more."""
    return sum(nbytes(plain_type(name, shape, quant, head), shape) for name, shape in _shapes(member).items())


def cache_bytes(member: Member, window: int) -> int:
    """Of a full window of so many tokens: keys and values, and the convolution's last two inputs for each block."""
    blocks = -(-window // BLOCK_TOKENS)
    keys_and_values = BLOCK_TOKENS * 2 * KV_HEADS * HEAD_DIM * KV_BYTES
    inputs = 2 * 4 * member.hidden_size
    attention = len(member.attention)
    return blocks * (attention * keys_and_values + (member.layers - attention) * inputs)


def _shapes(member: Member) -> dict[str, tuple[int, ...]]:
    """Of every tensor, by its GGUF name."""
    architecture, config = config_of("", member)
    weights = architecture.plan(config).weights()
    return {architecture.gguf_name(weight): shape_of(weight, member) for weight in weights}


def config_of(name: str, member: Member) -> tuple[ModuleType, Any]:
    """The architecture's module and its config."""
    kinds = [lfm2.ATTENTION if i in member.attention else lfm2.CONV for i in range(member.layers)]
    fields: dict[str, Any] = {
        "vocab_size": member.vocabulary,
        "hidden_size": member.hidden_size,
        "num_hidden_layers": member.layers,
        "num_attention_heads": member.heads,
        "num_key_value_heads": KV_HEADS,
        "layer_types": kinds,
        "rope_theta": 1e6,
    }
    if not member.experts:
        return lfm2, lfm2.config_from_hf(Fields(name, fields))
    fields |= {"num_experts": member.experts, "num_experts_per_tok": 4, "num_dense_layers": 2}
    return lfm2_moe, lfm2_moe.config_from_hf(Fields(name, fields))


def shape_of(weight: str, member: Member) -> tuple[int, ...]:
    """The shape of a weight of the plan as a GGUF has it: the experts of a layer are one tensor [E, O, I]."""
    hidden, width, kv = member.hidden_size, member.width, KV_HEADS * HEAD_DIM
    if ".experts." in weight:
        sides = (member.expert_width, hidden)
        return (member.experts, *(sides[::-1] if weight.endswith("w2") else sides))
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens": (member.vocabulary, hidden),
        "w1": (width, hidden),
        "w3": (width, hidden),
        "w2": (hidden, width),
        "gate": (member.experts, hidden),
        "expert_bias": (member.experts,),
        "q_proj": (hidden, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "out_proj": (hidden, hidden),
        "in_proj": (3 * hidden, hidden),
        "conv": (hidden, 3),
        "q_layernorm": (HEAD_DIM,),
        "k_layernorm": (HEAD_DIM,),
        "operator_norm": (hidden,),
        "ffn_norm": (hidden,),
        "embedding_norm": (hidden,),
    }
    return shapes[weight.rpartition(".")[2]]


def stays_float(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this GGUF name is float32 in every file: norms, the router, the convolution's taps."""
    return len(shape) == 1 or "ffn_gate_inp" in name or "shortconv.conv" in name


def plain_type(name: str, shape: tuple[int, ...], quant: str, head: str) -> str:
    """The type of a tensor where all matrices are `quant`, but the tied embedding of a q4_0 file, which is `head`."""
    if stays_float(name, shape):
        return "F32"
    return (head if quant == "q4_0" and name == "token_embd.weight" else quant).upper()
