"""LFM2-MoE (LFM2-8B-A1B, LFM2-24B-A2B, LFM2.5-8B-A1B): dense LFM2 whose later feed-forward layers are experts.

A router scores every expert by a sigmoid and takes the best `num_experts_per_tok`; the expert bias, which balanced the
load in training, takes part in the choice and never in the weights. The formulae are those of `transformers`
(models/lfm2_moe).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import FileInvalid, Unsupported
from headrace.models import lfm2
from headrace.plan import Plan
from headrace.weights.fields import Fields
from headrace.weights.tensor import Tensor, Weights

GGUF_ARCHITECTURE = "lfm2moe"
SIGMOID = 2  # of llama.cpp's expert_gating_func


@dataclass(frozen=True, slots=True)
class Config:
    """`backbone` is everything that a dense model has too."""

    backbone: lfm2.Config
    num_dense_layers: int
    num_experts: int
    num_experts_per_tok: int
    use_expert_bias: bool
    norm_topk_prob: bool
    routed_scaling_factor: float


def config_from_hf(fields: Fields) -> Config:
    experts = "num_experts" if "num_experts" in fields else "num_local_experts"
    return _checked(
        fields.source,
        Config(
            backbone=lfm2.config_from_hf(fields),
            num_dense_layers=fields.integer("num_dense_layers", 2),
            num_experts=fields.integer(experts, least=1),
            num_experts_per_tok=fields.integer("num_experts_per_tok", least=1),
            use_expert_bias=fields.flag("use_expert_bias", True),
            norm_topk_prob=fields.flag("norm_topk_prob", True),
            routed_scaling_factor=fields.number("routed_scaling_factor", 1.0),
        ),
    )


def config_from_gguf(fields: Fields, tensors: Mapping[str, Tensor]) -> Config:
    key = GGUF_ARCHITECTURE + "."
    if (gating := fields.integer(key + "expert_gating_func", SIGMOID)) != SIGMOID:
        raise Unsupported(f"{fields.source}: expert_gating_func {gating} is not supported, only {SIGMOID} (sigmoid)")
    backbone = lfm2.config_from_gguf(fields, tensors, GGUF_ARCHITECTURE)
    dense, experts = _found_experts(fields.source, backbone.layers, tensors)
    return _checked(
        fields.source,
        Config(
            backbone=backbone,
            num_dense_layers=dense,
            num_experts=experts,
            num_experts_per_tok=fields.integer(key + "expert_used_count", least=1),
            use_expert_bias=any(name.endswith(".exp_probs_b.bias") for name in tensors),
            norm_topk_prob=fields.flag(key + "expert_weights_norm", True),
            routed_scaling_factor=fields.number(key + "expert_weights_scale", 1.0) or 1.0,  # 0 is llama.cpp's "none"
        ),
    )


def _found_experts(source: str, layers: int, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many layers come before the first router, and how many experts that chooses among: the metadata may differ
    (`leading_dense_block_count`, `expert_count`), and the tensors are what runs.
    """
    for layer in range(layers):
        if router := tensors.get(f"blk.{layer}.{GGUF_EXPERT_NAMES['gate']}"):
            return layer, router.shape[0]
    raise FileInvalid(source, f"no layer has a router ({GGUF_EXPERT_NAMES['gate']}): the file is not what it says")


def gguf_metadata(config: Config, tensors: Weights) -> dict[str, Any]:
    """What `config_from_gguf` reads, as llama.cpp writes it. Raises Unsupported for what GGUF cannot say."""
    if not config.norm_topk_prob:
        raise Unsupported("weights of experts that are not normalised (norm_topk_prob) cannot be written to GGUF")
    if not config.backbone.tied:
        raise Unsupported("a mixture of experts with a head of its own (untied) cannot be written to GGUF")
    key = GGUF_ARCHITECTURE + "."
    width = next(weights[0].shape[0] for name, weights in tensors.items() if name.endswith("experts.w1"))
    found = lfm2.gguf_metadata(config.backbone, tensors, GGUF_ARCHITECTURE) | {
        key + "expert_count": next(len(found) for name, found in tensors.items() if name.endswith("experts.w1")),
        key + "expert_used_count": config.num_experts_per_tok,
        key + "expert_feed_forward_length": width,
        key + "leading_dense_block_count": config.num_dense_layers,
        key + "expert_gating_func": SIGMOID,
    }
    if config.routed_scaling_factor != 1:
        found[key + "expert_weights_scale"] = config.routed_scaling_factor
    return found


def hf_config(config: Config, tensors: Weights) -> dict[str, Any]:
    """What `config_from_hf` and transformers read; there are as many experts as there are matrices."""
    experts = next((weights for name, weights in tensors.items() if name.endswith("experts.w1")), ())
    width = {"moe_intermediate_size": experts[0].shape[0]} if experts else {}
    return (
        lfm2.hf_config(config.backbone, tensors)
        | width
        | {
            "architectures": ["Lfm2MoeForCausalLM"],
            "model_type": "lfm2_moe",
            "num_dense_layers": config.num_dense_layers,
            "num_experts": len(experts) or config.num_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "use_expert_bias": config.use_expert_bias,
            "norm_topk_prob": config.norm_topk_prob,
            "routed_scaling_factor": config.routed_scaling_factor,
        }
    )


def plan(config: Config) -> Plan:
    p, backbone = Plan(), config.backbone
    x = p.add("embed", weights=["embed_tokens"])
    for i in range(backbone.layers):
        x = lfm2.mixer(p, x, i, backbone)
        w = f"layers.{i}.feed_forward."
        h = p.add("norm", x, weights=[f"layers.{i}.ffn_norm"], eps=backbone.norm_eps)
        x = p.add("add", x, lfm2.mlp(p, h, w) if i < config.num_dense_layers else experts(p, h, w, config))
    return lfm2.head(p, x, backbone)


def experts(p: Plan, h: int, w: str, config: Config) -> int:
    routing = p.add(
        "route",
        h,
        weights=[w + "gate", w + "expert_bias"] if config.use_expert_bias else [w + "gate"],
        top_k=config.num_experts_per_tok,
        normalise=config.norm_topk_prob,
        scale=config.routed_scaling_factor,
        bias=config.use_expert_bias,
    )
    return p.add("experts", h, routing, weights=[w + f"experts.{part}" for part in ("w1", "w3", "w2")])


def weights_from_hf(names: list[str], tensors: Mapping[str, Tensor], source: str, _: Config) -> Weights:
    return {
        name: _hf_experts(name, tensors, source) if ".experts." in name else (lfm2.hf_tensor(name, tensors, source),)
        for name in names
    }


def weights_from_gguf(names: list[str], tensors: Mapping[str, Tensor], source: str, _: Config) -> Weights:
    found: dict[str, tuple[Tensor, ...]] = {}
    for name in names:
        if name.partition("feed_forward.")[2] not in GGUF_EXPERT_NAMES:
            found[name] = (lfm2.gguf_tensor(name, tensors, source),)
            continue
        tensor = tensors.get(gguf_name(name))
        if tensor is None:
            raise FileInvalid(source, f"the tensor {gguf_name(name)} is missing")
        found[name] = _stack(tensor, source) if ".experts." in name else (tensor,)
    return found


def gguf_name(name: str) -> str:
    """The name under which a weight of the plan is written to a GGUF file; experts of a layer are one tensor there."""
    _, _, part = name.partition("feed_forward.")
    return f"blk.{name.split('.')[1]}.{GGUF_EXPERT_NAMES[part]}" if part in GGUF_EXPERT_NAMES else lfm2.gguf_name(name)


def gguf_rows(_: str, __: Config) -> None:
    """The rows of a weight in the order in which GGUF has them: as they are."""


GGUF_EXPERT_NAMES = {
    "gate": "ffn_gate_inp.weight",
    "expert_bias": "exp_probs_b.bias",
    "experts.w1": "ffn_gate_exps.weight",
    "experts.w3": "ffn_up_exps.weight",
    "experts.w2": "ffn_down_exps.weight",
}


def _hf_experts(name: str, tensors: Mapping[str, Tensor], source: str) -> tuple[Tensor, ...]:
    """The matrices of all experts of a layer: one entry each, stacked (mlx-lm), or also fused (transformers 5)."""
    stem, part = name.rsplit(".", 1)
    stacked = f"{stem.removesuffix('experts')}switch_mlp.{lfm2.MLX_NAMES[part]}.weight"
    for prefix in ("model.", ""):
        if (stack := tensors.get(prefix + stacked)) is not None:
            return _stack(stack, source)
        fused = tensors.get(prefix + stem + (".down_proj" if part == "w2" else ".gate_up_proj"))
        if fused is not None:
            return tuple(_half(matrix, part) for matrix in _stack(fused, source))
        apart: list[Tensor] = []
        while tensor := tensors.get(f"{prefix}{stem}.{len(apart)}.{part}.weight"):
            apart.append(tensor)
        if apart:
            return tuple(apart)
    raise FileInvalid(source, f"the experts {stem}.*.{part} are missing")


def _half(matrix: Tensor, part: str) -> Tensor:
    """gate_up_proj holds w1 (gate) above w3 (up)."""
    middle = matrix.shape[0] // 2
    match part:
        case "w1":
            return matrix.rows(0, middle)
        case "w3":
            return matrix.rows(middle, matrix.shape[0])
        case _:
            return matrix


def _stack(tensor: Tensor, source: str) -> tuple[Tensor, ...]:
    if len(tensor.shape) != 3:
        raise FileInvalid(source, f"the tensor {tensor.name} should be a stack of matrices, one for each expert")
    return tensor.unstack()


def _checked(source: str, config: Config) -> Config:
    if config.num_experts_per_tok > config.num_experts:
        raise FileInvalid(source, f"{config.num_experts_per_tok} experts a token are asked of {config.num_experts}")
    return config
