"""One sequence's share of what a step gave, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.engine.batch import Part, Stepped
from headrace.engine.request import Chosen


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows of a part: `first_row` and `first_token` say where they stand in the step."""

    part: Part
    stepped: Stepped
    first_row: int
    first_token: int

    def token(self, row: int) -> int:
        """What was sampled in the part's row, or was its target."""
        return int(self.stepped.ids[self.first_row + row])

    def chosen(self, row: int, of_prompt: bool = False) -> Chosen:
        """The same with what was asked about it."""
        place, stepped = self.first_row + row, self.stepped
        logprob, top = None, list[tuple[int, float]]()
        if stepped.logprobs is not None and self.part.top_logprobs >= 0:
            assert stepped.top_ids is not None
            assert stepped.top_logprobs is not None
            logprob = float(stepped.logprobs[place])
            wanted = slice(0, self.part.top_logprobs)
            ids, logprobs = stepped.top_ids[place, wanted].tolist(), stepped.top_logprobs[place, wanted].tolist()
            top = [(id_, value) for id_, value in zip(ids, logprobs, strict=True) if id_ >= 0]
        experts = None
        if stepped.experts is not None and self.part.experts:
            experts = stepped.experts[self.first_token + self.part.rows[row]]
        return Chosen(self.token(row), logprob, tuple(top), experts, of_prompt)
