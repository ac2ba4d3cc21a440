"""From what the engine puts out for a sequence to the events that a user sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.engine.request import Chosen, Finished, Given
from headrace.events import Done, Dropped, Event, Text, Token, ToolCall
from headrace.text.calls import ReplyParser

Decode = Callable[[Sequence[int]], str]


@dataclass(slots=True)
class ReplyEvents:
    """One answer as it grows. With a `parser` it is a chat's: thinking and calls are told from text."""

    decode: Decode
    parser: ReplyParser | None = None
    dropped: Dropped | None = None
    called: bool = False

    def feed(self, output: Given) -> Iterator[Event]:
        match output:
            case Text(text):
                yield from self._parsed(self.parser.feed(text)) if self.parser else [output]
            case Chosen():
                yield self._token(output)
            case Finished():
                yield from self._parsed(self.parser.finish()) if self.parser else ()
                yield self._done(output)

    def _parsed(self, events: Sequence[Event]) -> Sequence[Event]:
        self.called |= any(isinstance(event, ToolCall) for event in events)
        return events

    def _done(self, end: Finished) -> Done:
        done = Done(end.reason, end.usage, end.timings, dropped=self.dropped)
        if self.parser:
            done = replace(done, warnings=tuple(self.parser.warnings))
        return replace(done, reason="tool_calls") if self.called and end.reason == "stop" else done

    def _token(self, chosen: Chosen) -> Token:
        top = tuple((id_, self.decode([id_]), logprob) for id_, logprob in chosen.top)
        layers = () if chosen.experts is None else tuple(map(_pairs, chosen.experts))
        return Token(chosen.id, self.decode([chosen.id]), chosen.logprob, top, layers, chosen.of_prompt)


def _pairs(layer: NDArray[np.float32]) -> tuple[tuple[int, float], ...]:
    """(expert, weight), best first, from a router's row: the experts' numbers, then their weights."""
    count = len(layer) // 2
    return tuple(zip(map(int, layer[:count]), map(float, layer[count:]), strict=True))
