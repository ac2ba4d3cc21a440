"""What constrained decoding costs, in an engine at work: `python -m benchmarks.grammar MODEL [LISTS]`.

MODEL is a GGUF file or a folder; what it says does not matter, its vocabulary does. LISTS (100) tool lists are drawn at
random, as in the test of the guarantee, and a call is demanded of each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import headrace
from headrace import Done
from headrace.engine.engine import Engine
from headrace.text.constraint import Constraint, Constraints
from headrace.text.grammar import Grammars
from tests.text.random_tools import Draw


class Stopwatch:
    """Times every call of a method, wherever it is made."""

    def __init__(self, owner: type, name: str) -> None:
        self.seconds: list[float] = []
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*given)
            finally:
                self.seconds.append(time.perf_counter() - began)

        setattr(owner, name, timed)

    def line(self, unit: str, scale: float) -> str:
        ordered = sorted(self.seconds)
        shares = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] * scale for share in (0.5, 0.95, 1)]
        return "{:.3g} {unit}, 95 % under {:.3g}, all under {:.3g} ({count} times)".format(
            *shares, unit=unit, count=len(ordered)
        )


def main(path: str, lists: int) -> None:
    watches = {
        "vocabulary": Stopwatch(Grammars, "_made"),
        "request": Stopwatch(Constraints, "of_reply"),
        "mask": Stopwatch(Constraint, "_allowed"),
        "accept": Stopwatch(Constraint, "accept"),
        "step": Stopwatch(Engine, "_step"),
    }
    written = forced = 0
    with headrace.load(path) as model:
        for seed in range(lists):
            asked = model.chat(
                [{"role": "user", "content": "Go on."}], Draw(seed).tools(), tool_choice="required", seed=seed,
                num_predict=2000, temperature=1.0,
            )  # fmt: skip
            *_, done = asked
            assert isinstance(done, Done)
            written, forced = written + done.usage.completion_tokens, forced + done.usage.forced_tokens
    print("vocabulary, once:          ", watches["vocabulary"].line("ms", 1e3))
    watches["request"].seconds.pop(0)  # which waited for the vocabulary
    print("grammar and first mask:    ", watches["request"].line("ms", 1e3))
    print("mask, between steps:       ", watches["mask"].line("us", 1e6))
    print("accept and forced tokens:  ", watches["accept"].line("us", 1e6))
    print("step, all of it:           ", watches["step"].line("us", 1e6))
    between = sum(watches["mask"].seconds) + sum(watches["accept"].seconds)
    steps = len(watches["step"].seconds)
    print(f"between two steps:          {between / steps * 1e6:.0f} us on average")
    print(f"forced:                     {forced} of {written} tokens, {forced / written:.0%}, in {steps} steps")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100)
