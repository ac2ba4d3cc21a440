"""What is asked of the engine: how to sample, and one sequence of tokens with all that is known of it."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import RequestInvalid
from headrace.events import Reason, Text, Timings, Usage
from headrace.text.constraint import Constraint
from headrace.text.stream import TextStream


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


@dataclass(frozen=True, slots=True)
class Finished:
    """The engine's last word on a sequence."""

    reason: Reason
    usage: Usage
    timings: Timings


@dataclass(slots=True)
class Clock:
    """When things happened to a sequence, by `time.perf_counter`."""

    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    first_token: float | None = None

    def timings(self) -> Timings:
        now = time.perf_counter()
        started = self.started or now
        first = self.first_token or now
        return Timings(
            queue_s=started - self.submitted,
            prompt_s=first - started,
            decode_s=now - first,
            first_token_s=first - self.submitted,
        )


# What comes out of a sequence's queue: text as it grows, rows of logits where they were asked for, then the end.
Output = Text | NDArray[np.float32] | Finished | BaseException


@dataclass(eq=False, slots=True)
class Sequence:
    """One run of tokens through the model. Only the engine's thread changes it; `cancelled` may be set by anyone.

    `ids` is the context so far (int32, room for `limit` tokens); the first `computed` of its `length` tokens have been
    stepped. With `keep_logits` the logits of every prompt token are given out and nothing is generated. A `constraint`
    masks tokens and forces them: `forced` of those generated were appended without a step of their own. The
    `loop_guard` ends it where it repeats itself without end.
    """

    ids: NDArray[np.int32]
    prompt_tokens: int
    parameters: Parameters
    seed: int
    end_ids: Collection[int]
    text: TextStream | None = None
    keep_logits: bool = False
    constraint: Constraint | None = None
    loop_guard: bool = True
    length: int = 0
    computed: int = 0
    forced: int = 0
    blocks: list[int] = field(default_factory=list)
    outputs: SimpleQueue[Output] = field(default_factory=SimpleQueue)
    clock: Clock = field(default_factory=Clock)
    cancelled: bool = False

    @classmethod
    def start(
        cls,
        prompt: Collection[int],
        parameters: Parameters,
        num_ctx: int,
        *,
        end_ids: Collection[int] = (),
        text: TextStream | None = None,
        keep_logits: bool = False,
        constraint: Constraint | None = None,
        loop_guard: bool = True,
    ) -> Sequence:
        """A sequence that has its prompt and may grow to the window of `num_ctx` tokens, or by num_predict."""
        room = num_ctx - len(prompt) if parameters.num_predict < 0 else parameters.num_predict
        ids = np.zeros(min(num_ctx, len(prompt) + room), np.int32)
        ids[: len(prompt)] = list(prompt)
        seed = secrets.randbits(64) if parameters.seed is None else parameters.seed % 2**64
        length = len(prompt)
        return cls(
            ids, length, parameters, seed, end_ids, text, keep_logits, constraint, loop_guard=loop_guard, length=length
        )

    @property
    def limit(self) -> int:
        return len(self.ids)

    @property
    def generated(self) -> int:
        return self.length - self.prompt_tokens

    def finish(self, reason: Reason) -> None:
        """Gives out what text was held back, then the end."""
        if self.text and (rest := self.text.finish()):
            self.outputs.put(Text(rest))
        self.outputs.put(Finished(reason, Usage(self.prompt_tokens, self.generated, self.forced), self.clock.timings()))

    def stream(self) -> Iterator[Text | NDArray[np.float32] | Finished]:
        """What the engine puts out, until it has finished. Leaving the iteration early cancels the sequence."""
        try:
            while True:
                output = self.outputs.get()
                if isinstance(output, BaseException):
                    raise output
                yield output
                if isinstance(output, Finished):
                    return
        finally:
            self.cancelled = True
