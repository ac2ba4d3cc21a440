"""Answers that were asked for together: begun once, and then read here, or pushed to wherever the reader is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headrace.engine import request
from headrace.engine.request import Output, Sequence
from headrace.events import Choice, Event
from headrace.reply import ReplyEvents


@dataclass(eq=False, slots=True)
class Answers:
    """`prompts` have a sequence for each of their answers; `replies` make events of what comes out of each, in order.

    The prompt of several answers is computed once. Either iterate, which begins them, blocks for what comes, and
    cancels them when it is left early; or `begin` them with a `put`, which is called on the engine's thread and must
    not block, and read what was put with `events`.
    """

    prompts: list[list[Sequence]]
    replies: list[ReplyEvents]
    submit: Callable[[Sequence], object]
    prompt_ids: list[list[int]]

    @property
    def sequences(self) -> list[Sequence]:
        return [one for answers in self.prompts for one in answers]

    def begin(self, put: Callable[[tuple[int, Output]], object]) -> None:
        """Raises ModelClosed."""
        for number, sequence in enumerate(self.sequences):
            sequence.outputs = request.Tagged(number, put)
        self._submit()

    def events(self, number: int, output: Output) -> Iterator[Event]:
        """What the output of answer `number` means. Raises it, where it is an error."""
        if isinstance(output, BaseException):
            raise output
        return self.replies[number].feed(output)

    def cancel(self) -> None:
        """Those that have not ended leave the engine before its next step, and put a Done that says so."""
        for sequence in self.sequences:
            sequence.cancelled = True

    def __iter__(self) -> Iterator[Choice]:
        for number, output in request.streams(self.sequences, self._submit):
            for event in self.replies[number].feed(output):
                yield Choice(number, event)

    def only(self) -> Iterator[Event]:
        """The events of a single answer."""
        ((sequence,),) = self.prompts
        for output in self._submitted(sequence):
            yield from self.replies[0].feed(output)

    def _submitted(self, sequence: Sequence) -> Iterator[request.Given]:
        self.submit(sequence)
        return sequence.stream()

    def _submit(self) -> None:
        for leader, *followers in self.prompts:
            if not leader.asked.echo:
                leader.followers, followers = followers, []
            for one in (leader, *followers):
                self.submit(one)
