"""What a model is, in figures: what `headrace show` prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from math import prod
from types import MappingProxyType
from typing import Any, Final

from headrace.checkpoint import Checkpoint
from headrace.engine.core import BLOCK_TOKENS, KV, kv_type
from headrace.models import lfm2, lfm2_moe
from headrace.plan import Step
from headrace.weights.tensor import Tensor

WINDOWS = (4096, 32_768)  # tokens, for which the memory is worked out

# Kinds of tensors, by a part of the plan's name; the first that fits.
KINDS = {
    "experts.": "experts",
    "feed_forward.gate": "router",
    "expert_bias": "router",
    "feed_forward.": "feed-forward",
    "mlp.": "feed-forward",
    "norm": "norms",
    "self_attn.": "attention",
    "conv.": "convolution",
    "embed_tokens": "embedding",
    "lm_head": "head",
}

# The `general.file_type` of a GGUF file, by llama.cpp's numbers.
FILE_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        32: "BF16",
    }
)


def summarise(source: Checkpoint) -> dict[str, Any]:
    """Plain JSON values; sizes in bytes, windows in tokens."""
    backbone = source.backbone
    total, active = parameters(source)
    layers = Counter(backbone.layer_types)
    return {
        "name": source.name,
        "path": str(source.path),
        "architecture": source.architecture,
        "parameters": {"total": total, "active": active},
        "hidden_size": backbone.hidden_size,
        "layers": {
            "convolution": layers[lfm2.CONV],
            "attention": layers[lfm2.ATTENTION],
            "kinds": list(backbone.layer_types),
        },
        "attention": {
            "heads": backbone.num_attention_heads,
            "kv_heads": backbone.num_key_value_heads,
            "head_dim": backbone.head_dim,
            "rope_theta": backbone.rope_theta,
        },
        "experts": _experts(source),
        "quantisation": quantisation(source),
        "context": {"default": source.context_length, "largest": backbone.max_position_embeddings},
        "tokenizer": {
            "tokens": source.tokenizer.vocab_size,
            "embeddings": backbone.vocab_size,
            "bos": source.tokenizer.bos_id,
            "end": sorted(source.end_ids),
        },
        "template": {
            "origin": _template_origin(source),
            "text": source.template.source,
        },
        "defaults": _defaults(source),
        "memory": {str(window): memory_bytes(source, window) for window in WINDOWS},
    }


def parameters(source: Checkpoint) -> tuple[int, int]:
    """All weights, and those that one token meets: all but the experts that it is not sent to."""
    total = sum(_size(tensors) for tensors in source.weights.values())
    if not isinstance(source.config, lfm2_moe.Config):
        return total, total
    experts = sum(_size(tensors) for name, tensors in source.weights.items() if ".experts." in name)
    return total, total - experts + experts * source.config.num_experts_per_tok // _expert_count(source)


def quantisation(source: Checkpoint) -> dict[str, dict[str, int]]:
    """Bytes of each kind of tensor, by the type they are stored in."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, tensors in source.weights.items():
        for tensor in tensors:
            kinds[_kind(name)][tensor.type] += tensor.data.size
    return {kind: dict(types) for kind, types in kinds.items()}


def level(file_type: object, types_of: Mapping[str, Mapping[str, int]]) -> str:
    """What a file calls itself ("Q4_K_M"), else, of its `quantisation`, the type that most bytes have."""
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    types = Counter[str]()
    for kind in types_of.values():
        types.update(kind)
    return max(types, key=types.__getitem__)


def human_count(count: int) -> str:
    """A number of parameters, as Ollama has it: "8.3B", "354.48M"."""
    for unit, size, places in (("B", 10**9, 1), ("M", 10**6, 2), ("K", 10**3, 0)):
        if count >= size:
            whole = count % size == 0
            return f"{count / size:.{0 if whole else places}f}{unit}"
    return str(count)


def memory_bytes(source: Checkpoint, window: int, kv: str | None = None) -> dict[str, int]:
    """What one full window of this many tokens takes: the mapped file, and the cache at its fullest."""
    cache = -(-window // BLOCK_TOKENS) * block_bytes(source, kv)
    weights = sum(tensor.data.size for tensors in source.weights.values() for tensor in tensors)
    return {"weights": weights, "cache": cache, "total": weights + cache}


def block_bytes(source: Checkpoint, kv: str | None = None) -> int:
    """Of one block of the cache: keys and values of its tokens, and the convolution's inputs after the last one.

    As the core lays them out: heads of whole units of 16 numbers, inputs of whole lines of 64 bytes.
    """
    backbone = source.backbone
    layers = Counter(backbone.layer_types)
    kept = kv_type(source.weights, kv)
    scale = 4 if kept == "int8" else 0  # of each head
    token = 2 * backbone.num_key_value_heads * (_round_up(backbone.head_dim, 16) * KV[kept] + scale)
    taps = backbone.conv_taps if isinstance(backbone, lfm2.Config) else 1
    inputs = _round_up(4 * (taps - 1) * backbone.hidden_size, 64)  # float32
    return BLOCK_TOKENS * layers[lfm2.ATTENTION] * token + layers[lfm2.CONV] * inputs


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def describe_plan(source: Checkpoint) -> list[str]:
    """The plan, a line a step: its value, operation, inputs, weights with shapes and types, attributes."""
    return [f"%{i:<4} {_step(source, step)}" for i, step in enumerate(source.plan.steps)]


def _step(source: Checkpoint, step: Step) -> str:
    inputs = " ".join(f"%{value}" for value in step.inputs)
    weights = " ".join(f"{name}{_shape(source.weights[name])}" for name in step.weights)
    attributes = " ".join(f"{name}={value:g}" for name, value in step.attributes.items())
    return "  ".join(part for part in (f"{step.op:8}", inputs, weights, attributes) if part)


def _shape(tensors: tuple[Tensor, ...]) -> str:
    sides = "x".join(map(str, tensors[0].shape))
    return f"[{len(tensors)} of {sides} {tensors[0].type}]" if len(tensors) > 1 else f"[{sides} {tensors[0].type}]"


def _experts(source: Checkpoint) -> dict[str, Any] | None:
    config = source.config
    if not isinstance(config, lfm2_moe.Config):
        return None
    return {
        "count": _expert_count(source),
        "per_token": config.num_experts_per_tok,
        "dense_layers": config.num_dense_layers,
        "bias": config.use_expert_bias,
        "normalised": config.norm_topk_prob,
        "scale": config.routed_scaling_factor,
    }


def _expert_count(source: Checkpoint) -> int:
    """Of the tensors, which run; a config.json may say another number. 1 in a model whose layers are all dense."""
    return next((len(found) for name, found in source.weights.items() if name.endswith("experts.w1")), 1)


def _template_origin(source: Checkpoint) -> str:
    if source.preset.template:
        return "the manifest"
    return "the file" if source.has_template else "the architecture"


def _defaults(source: Checkpoint) -> dict[str, dict[str, Any]]:
    values, origins = source.defaults.parameters, source.defaults.origins
    return {
        field.name: {"value": getattr(values, field.name), "origin": origins.get(field.name, "Headrace")}
        for field in fields(values)
        if field.name not in ("stop", "logit_bias", "seed")
    }


def _kind(name: str) -> str:
    return next((kind for part, kind in KINDS.items() if part in name), "other")


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(prod(tensor.shape) for tensor in tensors)
