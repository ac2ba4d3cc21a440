"""How tokens are chosen: the parameters of sampling, and what may be given for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from headrace.errors import RequestInvalid


@dataclass(frozen=True, slots=True)
class Parameters:
    """How tokens are chosen, under Ollama's names. The order is that of transformers' processors:
    logit bias, repetition penalty, presence and frequency penalty, temperature, top-k, top-p, min-p.
    """

    temperature: float = 1.0  # 0 takes the most probable token
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = -1  # how many of the last tokens the penalties look at; -1 is the whole context
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None  # None draws one
    stop: tuple[str, ...] = ()
    num_predict: int = -1  # -1 goes on to the end of the window
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def override(self, **given: Any) -> Parameters:
        """A copy with what the user gave; `None` means not given. Raises RequestInvalid for a name or value."""
        known = {f.name for f in fields(Parameters)}
        if unknown := given.keys() - known:
            raise RequestInvalid(f"unknown parameter {min(unknown)!r}: the parameters are {', '.join(sorted(known))}")
        changed = {name: _checked(name, value) for name, value in given.items() if value is not None}
        return replace(self, **changed)


RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (1e-3, 1000),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "top_k": (0, 2**31 - 1),
    "repeat_last_n": (-1, 2**31 - 1),
    "num_predict": (-1, 2**31 - 1),
    "seed": (-(2**63), 2**64 - 1),
}
WHOLE = ("top_k", "repeat_last_n", "num_predict", "seed")


def _checked(name: str, value: Any) -> Any:
    if name == "stop":
        return _stops(value)
    if name == "logit_bias":
        return _bias(value)
    kind, expected = (int, "a whole number") if name in WHOLE else (int | float, "a number")
    low, high = RANGES[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise RequestInvalid(f"{name} is {value!r} but should be {expected} from {low:g} to {high:g}")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) and stop for stop in stops):
        raise RequestInvalid("stop should be a text or a list of texts, none of them empty")
    return tuple(stops)


def _bias(value: Any) -> dict[int, float]:
    try:
        bias = {int(token): float(amount) for token, amount in value.items()}
    except (AttributeError, TypeError, ValueError):
        raise RequestInvalid("logit_bias should map token ids to numbers") from None
    if not all(math.isfinite(amount) for amount in bias.values()):
        raise RequestInvalid("logit_bias should hold finite numbers")
    return bias
