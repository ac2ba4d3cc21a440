"""Ollama's options, of a request, a Modelfile or a manifest: what they mean here, and why some are refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from headrace.engine.parameters import WHOLE, Parameters
from headrace.errors import RequestInvalid

LARGEST_WINDOW: Final = 2**31 - 1

# Each under its name in Parameters, with that one's range.
HONOURED: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "num_predict",
)
# They tune the hardware, or say how to do what is done in another way here: no answer changes with them.
IGNORED: Final[Collection[str]] = frozenset(
    {
        *("numa", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "use_mlock", "low_vram", "f16_kv"),
        *("vocab_only", "logits_all", "embedding_only", "draft_num_predict", "use_imagegen_runner"),
        "num_keep",  # a shift keeps what the system says
        *("mirostat_tau", "mirostat_eta"),  # without mirostat, which is refused, they mean nothing
    }
)
# Samplers and habits that are not there, by the value with which they do nothing.
NEUTRAL: Final[Mapping[str, Any]] = MappingProxyType(
    {"typical_p": 1, "tfs_z": 1, "mirostat": 0, "penalize_newline": True}
)
DRAWN_SEED: Final = -1
TO_THE_END: Final = (-1, -2)  # of the window: with no limit, or as much as fills it


@dataclass(frozen=True, slots=True)
class Options:
    """`parameters` are the given ones of sampling, `num_ctx` the window, in tokens, if one is given."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    num_ctx: int | None = None


def read(given: Mapping[str, Any], place: str = "options.") -> Options:
    """What is null is as if it were not there. `place` is what an error puts before a name.

    Raises RequestInvalid, with the name and what was expected.
    """
    parameters = dict[str, Any]()
    num_ctx: int | None = None
    for name, value in given.items():
        if value is None or name in IGNORED:
            continue
        if name in NEUTRAL:
            _check_neutral(name, value, place)
        elif name == "num_ctx":
            num_ctx = _window(_whole(value))
        elif name in HONOURED:
            parameters[name] = _whole(value) if name in WHOLE else value
        else:
            known = ", ".join(sorted((*HONOURED, "num_ctx")))
            raise RequestInvalid(f"{place}{name}: there is no such option here: they are {known}")
    if parameters.get("seed") == DRAWN_SEED:
        del parameters["seed"]
    if parameters.get("num_predict") in TO_THE_END:
        parameters["num_predict"] = -1
    Parameters().override(**parameters)  # before a model is loaded for them
    return Options(parameters, num_ctx)


def _whole(value: Any) -> Any:
    """JSON as some languages write it has no whole numbers: 40.0 is 40."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _window(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_WINDOW:
        raise RequestInvalid(f"num_ctx is {value!r} but should be a whole number from 1 to {LARGEST_WINDOW}")
    return value


def _check_neutral(name: str, value: Any, place: str) -> None:
    neutral = NEUTRAL[name]
    if value != neutral or isinstance(value, bool) != isinstance(neutral, bool):
        shown = "true" if neutral is True else neutral
        raise RequestInvalid(f"{place}{name} is {value!r} but only {shown} is supported: leave it out")
