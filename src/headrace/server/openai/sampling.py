"""What chat completions and completions of OpenAI's API have in common: how tokens are chosen, and where it ends."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from headrace.engine.parameters import RANGES
from headrace.errors import RequestInvalid
from headrace.model import MOST_ANSWERS
from headrace.server.durations import seconds
from headrace.server.wire import Fields

MOST_STOPS = 256

# Change nothing in an answer: they are about accounts, caches and bills elsewhere.
IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    | {"prompt_cache_options", "prediction", "cache_prompt"}
)


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against listeners, which there are none of here: ignored


class Told(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is asked of us beside OpenAI's API."""

    experts: bool | None = None


class Sampled(Fields, kw_only=True):
    """Fields of a request. Those that are left out come from the model."""

    ignored: ClassVar[frozenset[str]] = IGNORED

    model: str
    n: Annotated[int, Meta(ge=1, le=MOST_ANSWERS)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=1e-3, le=1000)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=1e-3, le=1000)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=MOST_STOPS)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    context: Literal["error", "shift", "truncate"] = "error"
    num_ctx: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    keep_alive: str | float | None = None
    headrace: Told | None = None

    def check(self) -> None:
        """Raises RequestInvalid for what is wrong whatever the model."""
        if self.stream_options is not None and not self.stream:
            raise RequestInvalid("stream_options is for streams: set stream, or leave it out", "stream_options")
        if self.repeat_penalty is not None and self.repetition_penalty is not None:
            raise RequestInvalid("repeat_penalty and repetition_penalty are the same: give one", "repetition_penalty")
        low, high = RANGES["seed"]
        if self.seed is not None and not low <= self.seed <= high:
            raise RequestInvalid(f"seed is {self.seed} but should be a number of 64 bits", "seed")
        if not all(self._stops() or ()):
            raise RequestInvalid("stop holds an empty text, which is everywhere: leave it out", "stop")
        if not all(token.isascii() and token.isdecimal() for token in self.logit_bias or ()):
            raise RequestInvalid("logit_bias should map token ids to numbers", "logit_bias")

    def sampling(self) -> dict[str, Any]:
        """Under the names that `Model` has for them."""
        bias = self.logit_bias
        penalty = self.repetition_penalty if self.repeat_penalty is None else self.repeat_penalty
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "repeat_penalty": penalty,
            "seed": self.seed,
            "stop": self._stops(),
            "logit_bias": None if bias is None else {int(token): amount for token, amount in bias.items()},
            "context": self.context,
            "num_ctx": self.num_ctx,
            "experts": self.experts,
        }

    @property
    def experts(self) -> bool:
        return bool(self.headrace and self.headrace.experts)

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def keep_alive_s(self) -> float | None:
        return None if self.keep_alive is None else seconds(self.keep_alive, "keep_alive")

    def _stops(self) -> list[str] | None:
        return [self.stop] if isinstance(self.stop, str) else self.stop
