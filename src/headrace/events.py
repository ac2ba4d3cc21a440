"""What a model says, piece by piece: the one vocabulary between the engine and everything that shows or sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["stop", "length", "repetition", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written by one answer (by all rounds of it, where tools were run).

    `forced_tokens` of those written left no choice: they were appended at once, each saving a step. `cached_tokens` of
    those read were there already, from an earlier request that began alike: they took no time.
    """

    prompt_tokens: int
    completion_tokens: int
    forced_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one answer went, in seconds, from the moment it was asked for."""

    queue_s: float
    prompt_s: float
    decode_s: float
    first_token_s: float

    @property
    def total_s(self) -> float:
        return self.queue_s + self.prompt_s + self.decode_s


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the answer, or `of_prompt`, where log-probabilities or experts are asked for: before its text.

    Log-probabilities are of the model's own distribution, before penalties, masks and temperature; None for the first
    token of a prompt. `top` are the most likely tokens at its place. `experts` has, for each mixture layer, the chosen
    experts with their weights in the sum, as routed by the token before this one.
    """

    id: int
    text: str  # special tokens included; pieces of a character as U+FFFD
    logprob: float | None = None
    top: tuple[tuple[int, str, float], ...] = ()  # id, text, log-probability, most likely first
    experts: tuple[tuple[tuple[int, float], ...], ...] = ()
    of_prompt: bool = False


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the model thinks aloud before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool; the order of `arguments` is the model's."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of the JSON of a call's arguments, before the call is whole. ToolCall, which comes after the last,
    is what counts: a call that turns out to be unreadable has none."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back; with `error`, `content` is the sentence that says why it could not."""

    id: str
    name: str
    content: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was left out of a prompt so that it fits the window: whole `messages`, and `tokens` in all, theirs and those
    of a text that lost its beginning."""

    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end. `reason` is "stop", "length" (num_predict or the window), "repetition" (an endless loop: see
    `headrace.engine.repetition`), "tool_calls" or "cancelled". `warnings` are what went wrong on the way:
    "malformed_tool_call" (it came as text), "unknown_tool" (it was not offered). `dropped` is what the prompt left out,
    where `context` allowed that (of several rounds: the last, which leaves out the most)."""

    reason: Reason
    usage: Usage
    timings: Timings
    warnings: tuple[str, ...] = ()
    dropped: Dropped | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """An event of one of several answers that were asked for together: `index` counts them from 0."""

    index: int
    event: Event


Event = Text | Token | Thinking | ToolCallDelta | ToolCall | ToolResult | Done
