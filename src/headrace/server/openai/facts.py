"""What the last words of an answer tell beside it: tokens, times, and what there is to know of how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.events import Done, Reason, Token

# A loop that was cut off is no answer that the model ended: whoever waits for the rest of it should know.
FINISH_REASONS: Mapping[Reason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "repetition": "length",
    "cancelled": "stop",
}

Experts = list[tuple[tuple[tuple[int, float], ...], ...]]  # of each token, of each layer


@dataclass(slots=True)
class Facts:
    """Of all answers to one request, in the order of their indices. `per_prompt` answers share a prompt."""

    per_prompt: int
    load_s: float
    done: list[Done | None]
    experts: list[Experts] | None
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, answers: int, per_prompt: int, load_s: float, experts: bool) -> Facts:
        return cls(per_prompt, load_s, [None] * answers, [[] for _ in range(answers)] if experts else None)

    def route(self, index: int, token: Token) -> None:
        """Notes the experts of a token of an answer."""
        if self.experts is not None:
            self.experts[index].append(token.experts)

    @property
    def complete(self) -> bool:
        return all(self.done)

    @property
    def reason(self) -> str:
        """Why it ended: of several answers each reason once."""
        return ",".join(sorted({done.reason for done in self._ended}))

    @property
    def _ended(self) -> Sequence[Done]:
        return [done for done in self.done if done]

    @property
    def _leaders(self) -> Sequence[Done]:
        """One for each prompt: that whose answer computed it."""
        return self._ended[:: self.per_prompt]

    def usage(self) -> dict[str, Any]:
        """A prompt counts once, however many answers it has."""
        prompt = sum(done.usage.prompt_tokens for done in self._leaders)
        completion = sum(done.usage.completion_tokens for done in self._ended)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    @property
    def _cached(self) -> int:
        return sum(done.usage.cached_tokens for done in self._leaders)

    def timings(self) -> dict[str, Any]:
        """Milliseconds, under the names of llama.cpp's server. Of several answers: from the first to the last."""
        times = [done.timings for done in self._ended]
        prompt_n = sum(done.usage.prompt_tokens for done in self._leaders) - self._cached
        predicted_n = sum(done.usage.completion_tokens for done in self._ended)
        prompt_s = max(time.prompt_s for time in times)
        predicted_s = max(time.decode_s for time in times)
        return {
            "load_ms": _ms(self.load_s),
            "queue_ms": _ms(min(time.queue_s for time in times)),
            "first_token_ms": _ms(min(time.first_token_s for time in times)),
            "cache_n": self._cached,
            "prompt_n": prompt_n,
            "prompt_ms": _ms(prompt_s),
            "prompt_per_second": _rate(prompt_n, prompt_s),
            "predicted_n": predicted_n,
            "predicted_ms": _ms(predicted_s),
            "predicted_per_second": _rate(predicted_n, predicted_s),
        }

    def beside(self) -> dict[str, Any]:
        """What is no part of OpenAI's API."""
        return {"timings": self.timings(), "headrace": self.headrace()}

    def headrace(self) -> dict[str, Any]:
        """Of a single answer; of several, that of each in a list."""
        each = [self._headrace(index, done) for index, done in enumerate(self._ended)]
        return each[0] if len(each) == 1 else {"choices": each}

    def _headrace(self, index: int, done: Done) -> dict[str, Any]:
        facts: dict[str, Any] = {"reason": done.reason}
        if done.usage.forced_tokens:
            facts["forced_tokens"] = done.usage.forced_tokens
        if done.warnings:
            facts["warnings"] = done.warnings
        if done.dropped:
            facts["dropped"] = {"messages": done.dropped.messages, "tokens": done.dropped.tokens}
        if self.experts is not None:
            facts["experts"] = self.experts[index]
        return facts


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0
