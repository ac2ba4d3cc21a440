"""The types of published files, tensor by tensor, as llama.cpp's quantiser chooses them."""

from __future__ import annotations

import pytest

from headrace.weights.mixtures import type_of

ATTENTION = (2, 6, 10, 14, 18, 21)  # of 24 layers: LFM2-8B-A1B
WIDE = (2048, 2048)

# In 24 layers: the first three and the last three, and of those between them each third from the sixth on.
FINER = {0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23}


def types(name: str, mixture: str) -> list[str]:
    return [type_of(f"blk.{i}.{name}.weight", WIDE, mixture, 24, ATTENTION) for i in range(24)]


@pytest.mark.parametrize(("mixture", "kind"), [("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")])
def test_some_layers_are_finer(mixture: str, kind: str) -> None:
    for name in ("ffn_down", "ffn_down_exps"):
        assert types(name, mixture) == ["Q6_K" if i in FINER else kind for i in range(24)]
    values = [type_of(f"blk.{i}.attn_v.weight", WIDE, mixture, 24, ATTENTION) for i in ATTENTION]
    assert values == [kind, kind, "Q6_K", kind, kind, "Q6_K"]  # the layers with attention are counted, not all
    for name in ("attn_output", "attn_q", "attn_k", "ffn_gate_exps", "ffn_up", "shortconv.in_proj"):
        assert set(types(name, mixture)) == {kind}


def test_thirds_are_counted_from_the_first_eighth() -> None:
    found = [type_of(f"blk.{i}.ffn_down.weight", WIDE, "q4_k_m", 16, (2, 5, 8, 10, 12, 14)) for i in range(16)]
    assert found == ["Q6_K" if i in {0, 1, 4, 7, 10, 13, 14, 15} else "Q4_K" for i in range(16)]


def test_q3_k_l_is_finer_everywhere() -> None:
    for name in ("ffn_down", "ffn_down_exps", "attn_v", "attn_output"):
        assert set(types(name, "q3_k_l")) == {"Q5_K"}
    assert set(types("attn_q", "q3_k_l")) == set(types("ffn_up_exps", "q3_k_l")) == {"Q3_K"}


@pytest.mark.parametrize("mixture", ["q3_k_l", "q4_k_m", "q5_k_m", "q6_k"])
def test_logits_come_from_q6_k(mixture: str) -> None:
    assert type_of("token_embd.weight", (65_536, 2048), mixture, 24, ATTENTION) == "Q6_K"
    assert type_of("output.weight", (65_536, 2048), mixture, 24, ATTENTION) == "Q6_K"
    assert type_of("token_embd.weight", (65_536, 96), mixture, 24, ATTENTION) == "Q8_0"


def test_what_no_large_block_divides_takes_a_smaller_one() -> None:
    fallback = {"q3_k_l": "Q4_0", "q4_k_m": "Q5_0", "q5_k_m": "Q5_1", "q6_k": "Q8_0"}
    for mixture, kind in fallback.items():
        assert type_of("blk.3.ffn_up.weight", (64, 96), mixture, 24, ATTENTION) == kind
        assert type_of("blk.3.ffn_up.weight", (64, 100), mixture, 24, ATTENTION) == "F16"
