"""Small random models in the shapes of the family, made by `transformers`: the oracle of every architecture test."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, Lfm2MoeConfig, Lfm2MoeForCausalLM

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
DENSE: dict[str, Any] = SMALL | {"intermediate_size": 96, "block_multiple_of": 8}


def dense(**changes: Any) -> Lfm2ForCausalLM:
    return _random(Lfm2ForCausalLM, Lfm2Config(**copy.deepcopy(DENSE | changes)))


def moe(**changes: Any) -> Lfm2MoeForCausalLM:
    return _random(Lfm2MoeForCausalLM, Lfm2MoeConfig(**copy.deepcopy(MOE | changes)))


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
