"""Where a parameter that the user did not give comes from: the file, else its generation config, else the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.engine.parameters import Parameters
from headrace.weights.fields import Fields

# Our name of a parameter, as other writers spell it.
GGUF_NAMES = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repeat_penalty",
    "general.sampling.penalty_last_n": "repeat_last_n",
}
GENERATION_CONFIG_NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}

# The model cards' recommendations, by what can be read off a file: mixture of experts or not, layers, vocabulary.
LFM2: Mapping[str, float] = {"temperature": 0.3, "min_p": 0.15, "repeat_penalty": 1.05}
LFM2_24B: Mapping[str, float] = {"temperature": 0.1, "top_k": 50, "repeat_penalty": 1.05}
LFM25_8B: Mapping[str, float] = {"temperature": 0.2, "top_k": 80, "repeat_penalty": 1.05}
SMOLLM2: Mapping[str, float] = {"temperature": 0.2, "top_p": 0.9}
LLAMA3: Mapping[str, float] = {"temperature": 0.6, "top_p": 0.9}

SMOLLM2_VOCABULARY = 49_152
CARD_CONTEXT = 32_768  # what the 65,536-token generation was trained on; its files say 128,000
LARGE_VOCABULARY = 128_000  # of the generation that was trained on its whole window
LARGE_CONTEXT = 131_072  # the most of it without being asked: a file may claim any number


def family(architecture: str, *, layers: int, vocab_size: int) -> Mapping[str, float]:
    """What the model card recommends for a member of the family."""
    if architecture == "llama":
        return SMOLLM2 if vocab_size == SMOLLM2_VOCABULARY else LLAMA3
    if architecture == "lfm2":
        return LFM2
    if vocab_size >= LARGE_VOCABULARY:
        return LFM25_8B
    return LFM2_24B if layers >= 40 else LFM2


def context_length(vocab_size: int, max_position_embeddings: int) -> int:
    """The window, in tokens, when none is asked for."""
    return min(max_position_embeddings, LARGE_CONTEXT if vocab_size >= LARGE_VOCABULARY else CARD_CONTEXT)


def from_gguf(fields: Fields) -> dict[str, Any]:
    return _named(fields, GGUF_NAMES)


def from_generation_config(fields: Fields) -> dict[str, Any]:
    """`do_sample: false` means temperature 0, where no temperature is stated."""
    greedy = fields.values.get("do_sample") is False and "temperature" not in fields
    return ({"temperature": 0.0} if greedy else {}) | _named(fields, GENERATION_CONFIG_NAMES)


@dataclass(frozen=True, slots=True)
class Defaults:
    """A model's parameters, and for each that somebody stated who it was."""

    parameters: Parameters
    origins: Mapping[str, str]


def resolve(sources: Mapping[str, Mapping[str, Any]]) -> Defaults:
    """Each parameter from the first of the named `sources` that states it."""
    stated = {
        name: (value, origin) for origin, found in reversed(list(sources.items())) for name, value in found.items()
    }
    return Defaults(
        Parameters().override(**{name: value for name, (value, _) in stated.items()}),
        {name: origin for name, (_, origin) in stated.items()},
    )


def _named(fields: Fields, names: Mapping[str, str]) -> dict[str, Any]:
    whole = ("top_k", "repeat_last_n")
    return {
        name: fields.integer(key, least=-1) if name in whole else fields.number(key)
        for key, name in names.items()
        if key in fields
    }
