"""What is asked of the engine, and one sequence of tokens with all that is known of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.engine.cache import Block
from headrace.engine.parameters import Parameters
from headrace.engine.speculation import Drafter, Ledger
from headrace.events import Reason, Text, Timings, Usage
from headrace.text.constraint import Constraint
from headrace.text.stream import TextStream

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the logits of some tokens: by request, and minus infinity, which nothing makes up for."""

    barred: Int32
    ids: Int32
    values: Float32

    @classmethod
    def of(cls, asked: Mapping[int, float], barred: Int32) -> Bias:
        ids, values = np.array(list(asked), np.int32), np.array(list(asked.values()), np.float32)
        never = np.full(len(barred), -np.inf, np.float32)
        return cls(barred, np.concatenate([ids, barred]), np.concatenate([values, never]))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a sequence beside its text."""

    logprobs: int = -1  # how many likely tokens beside each token's own log-probability; -1: none of that
    echo: bool = False  # the log-probabilities of the prompt's tokens, too
    experts: bool = False  # which experts each layer chose
    ends: bool = False  # all that for the token that ends the answer, too

    @property
    def of_tokens(self) -> bool:
        return self.logprobs >= 0 or self.experts


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token and what was asked about it: see `headrace.events.Token`."""

    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    experts: NDArray[np.float32] | None = None  # [layers, 2 top_k]
    of_prompt: bool = False


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


Wants = Literal["tokens", "logits", "hidden"]

# What comes out of a sequence's queue: text as it grows, or rows of what it wants instead, then the end.
Given = Text | Chosen | NDArray[np.float32] | Finished
Output = Given | BaseException


class Outputs(Protocol):
    """Where a sequence's outputs go."""

    def put(self, output: Output, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Tagged:
    """A place that several sequences share: each output comes with the number of its sequence."""

    number: int
    put_both: Callable[[tuple[int, Output]], object]

    def put(self, output: Output, /) -> None:
        self.put_both((self.number, output))


@dataclass(eq=False, slots=True)
class Sequence:
    """One run of tokens through the model. Only the engine's thread changes it; `cancelled` may be set by anyone.

    `ids` is the context so far (int32, room for `limit` tokens); the first `computed` of its `length` tokens have been
    stepped. It `wants` tokens; or logits or hidden states of every prompt token, and then nothing is generated. A
    `constraint` masks tokens and forces them: `forced` of those generated were appended without a step of their own.
    A `drafter` proposes tokens: the last step's last `rewind` ones were wrong, and the core's draft `slot` remembers
    what stood before them. The `loop_guard` ends it where it repeats itself without end.

    `followers` have the same prompt and wait until it has been computed. `blocks` are its blocks of the cache, the
    first of which it shares: `held`, which are full. `cached` tokens were there when it was first admitted. It has
    `caught_up` once all its tokens have been computed. `told` of its prompt's tokens have got what is wanted of each.
    """

    ids: NDArray[np.int32]
    prompt_tokens: int
    parameters: Parameters
    seed: int
    end_ids: Collection[int]
    text: TextStream | None = None
    wants: Wants = "tokens"
    constraint: Constraint | None = None
    asked: Asked = Asked()
    drafter: Drafter | None = None
    ledger: Ledger = field(default_factory=Ledger)
    slot: int = -1
    rewind: int = 0
    loop_guard: bool = True
    length: int = 0
    computed: int = 0
    forced: int = 0
    told: int = 0
    caught_up: bool = False
    followers: list[Sequence] = field(default_factory=list)
    cached: int = 0
    held: list[Block] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    outputs: Outputs = field(default_factory=lambda: SimpleQueue[Output]())
    clock: Clock = field(default_factory=Clock)
    cancelled: bool = False
    _bias: Bias | None = field(default=None, init=False, repr=False)

    @classmethod
    def start(
        cls,
        prompt: Collection[int],
        parameters: Parameters,
        num_ctx: int,
        *,
        end_ids: Collection[int] = (),
        text: TextStream | None = None,
        wants: Wants = "tokens",
        constraint: Constraint | None = None,
        asked: Asked = Asked(),
        drafter: Drafter | None = None,
        loop_guard: bool = True,
    ) -> Sequence:
        """A sequence that has its prompt and may grow to the window of `num_ctx` tokens, or by num_predict."""
        room = num_ctx - len(prompt) if parameters.num_predict < 0 else parameters.num_predict
        ids = np.zeros(min(num_ctx, len(prompt) + room), np.int32)
        ids[: len(prompt)] = list(prompt)
        seed = secrets.randbits(64) if parameters.seed is None else parameters.seed % 2**64
        return cls(
            ids,
            len(prompt),
            parameters,
            seed,
            end_ids,
            text,
            wants,
            constraint,
            asked,
            drafter,
            loop_guard=loop_guard,
            length=len(prompt),
        )

    @property
    def limit(self) -> int:
        return len(self.ids)

    @property
    def goal(self) -> int:
        """Tokens that can be computed now, without those that nothing follows.

        Followers part from it before the last token of the prompt.
        """
        before = self.prompt_tokens - 1
        return before if self.echoes_only or (self.followers and self.computed < before) else self.length

    @property
    def echoes_only(self) -> bool:
        """Whether only its prompt is asked about, which has tokens that follow others."""
        return self.asked.echo and self.limit == self.prompt_tokens

    @property
    def skippable(self) -> int:
        """Tokens that need not be computed where they are in the cache.

        All but the last one, whose logits are wanted; where something is wanted of each, those that have been `told`.
        """
        if self.wants != "tokens" or self.asked.echo:
            return max(0, self.told - 1)
        return self.length - 1

    @property
    def generated(self) -> int:
        return self.length - self.prompt_tokens

    def bias(self, barred: Int32) -> Bias:
        """What is added to the logits where `barred` ids are never sampled; made once, not for every step."""
        if self._bias is None or self._bias.barred is not barred:
            self._bias = Bias.of(self.parameters.logit_bias, barred)
        return self._bias

    def finish(self, reason: Reason) -> None:
        """Gives out what text was held back, then the end."""
        if self.text and (rest := self.text.finish()):
            self.outputs.put(Text(rest))
        usage = Usage(self.prompt_tokens, self.generated, self.forced, min(self.cached, self.prompt_tokens))
        self.outputs.put(Finished(reason, usage, self.clock.timings()))

    def stream(self) -> Iterator[Given]:
        """What the engine puts out, until it has finished. Leaving the iteration early cancels the sequence."""
        assert isinstance(self.outputs, SimpleQueue)
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


def streams(sequences: Collection[Sequence], submit: Callable[[], object]) -> Iterator[tuple[int, Given]]:
    """What the engine puts out for several sequences as it comes, with their numbers, after it was given them.

    Leaving early, or an error of one of them, cancels all.
    """
    queue = SimpleQueue[tuple[int, Output]]()
    for number, sequence in enumerate(sequences):
        sequence.outputs = Tagged(number, queue.put)
    left = len(sequences)
    try:
        submit()
        while left:
            number, output = queue.get()
            if isinstance(output, BaseException):
                raise output
            yield number, output
            left -= isinstance(output, Finished)
    finally:
        for sequence in sequences:
            sequence.cancelled = True
