"""Which type each tensor of a mixed file has: the published `Q4_K_M` and its kind, as llama.cpp's quantiser mixes them.

A mixture has a type for most matrices. The one that gives the logits is Q6_K; values of attention and the way out of a
feed-forward layer are finer than the rest, in some layers or in all. What a block does not divide takes a smaller one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from headrace.weights.quantisation import TYPES

MIXTURES: Mapping[str, str] = MappingProxyType({"q3_k_l": "Q3_K", "q4_k_m": "Q4_K", "q5_k_m": "Q5_K", "q6_k": "Q6_K"})
_FALLBACK = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def type_of(name: str, shape: tuple[int, ...], mixture: str, layers: int, attention: tuple[int, ...]) -> str:
    """The type of a matrix by its GGUF name; `attention` are the attention layers among `layers`, in order."""
    kind = _wanted(name, mixture, layers, attention)
    if shape[-1] % TYPES[kind].block:
        kind = _FALLBACK[kind]
    return kind if shape[-1] % TYPES[kind].block == 0 else "F16"


def _wanted(name: str, mixture: str, layers: int, attention: tuple[int, ...]) -> str:
    if name in ("token_embd.weight", "output.weight"):
        return "Q6_K"
    found = re.fullmatch(r"blk\.(\d+)\.(attn_v|attn_output|ffn_down(?:_exps)?)\.weight", name)
    if found and mixture == "q3_k_l":
        return "Q5_K"
    if found and mixture in ("q4_k_m", "q5_k_m") and found[2] != "attn_output":
        layer = int(found[1])
        counted = (attention.index(layer), len(attention)) if found[2] == "attn_v" else (layer, layers)
        if _is_finer(*counted):
            return "Q6_K"
    return MIXTURES[mixture]


def _is_finer(layer: int, layers: int) -> bool:
    """The first eighth of the layers, the last, and every third of the others."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
