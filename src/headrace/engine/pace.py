"""How much of a prompt to take into one step, so that those who decode beside it do not wait too long."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_TOKENS = 512  # of prompts, in one step, where nobody waits for the next token
LEAST_TOKENS = 32  # a smaller chunk would read all experts for hardly anything
TARGET_S = 0.25  # a step that others wait for: four tokens a second is about as fast as people read
WEIGHT = 0.3  # of the last step in the running estimate


@dataclass(slots=True)
class Pace:
    """Learns from each step what a prompt's token costs, and sizes the next chunk to the target."""

    most_tokens: int = CHUNK_TOKENS
    target_s: float = TARGET_S
    token_s: float | None = None  # estimate; None until a chunk has been timed

    def chunk_tokens(self, decoding: int) -> int:
        """Prompt tokens for the next step, beside `decoding` sequences that wait for it."""
        if not decoding or self.token_s is None:
            return self.most_tokens
        fitting = int(self.target_s / self.token_s) // LEAST_TOKENS * LEAST_TOKENS
        return min(self.most_tokens, max(LEAST_TOKENS, fitting))

    def observe(self, tokens: int, seconds: float) -> None:
        """A step with `tokens` tokens of prompts took so long, whatever else was in it."""
        if tokens < LEAST_TOKENS:
            return
        cost = seconds / tokens
        self.token_s = cost if self.token_s is None else (1 - WEIGHT) * self.token_s + WEIGHT * cost
