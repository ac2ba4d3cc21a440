"""The text of a reply -> thinking, text and tool calls, as it arrives.

A model of the family calls tools in Python's notation between two sentinels:
`<|tool_call_start|>[f(a="x", n=1), g()]<|tool_call_end|>`, before, after or amid its prose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from headrace.events import Event, Text, Thinking, ToolCall
from headrace.text.pythonic import format_call, parse_calls
from headrace.text.stream import overlap

__all__ = ["CALL_END", "CALL_START", "THINK_END", "THINK_START", "ReplyParser", "format_call", "parse_calls"]

CALL_START: Final = "<|tool_call_start|>"
CALL_END: Final = "<|tool_call_end|>"
THINK_START: Final = "<think>"
THINK_END: Final = "</think>"


class ReplyParser:
    """Feed it a reply in pieces of any size; the events do not depend on where the pieces end (once neighbouring
    pieces of text are joined).

    Thinking is what stands between `<think>` at the very start and `</think>`; with `thinking` the prompt ended in
    `<think>`, so the reply begins inside. Calls that cannot be read come back as text without their sentinels.
    """

    __slots__ = ("_buffer", "_calls", "_place")

    def __init__(self, thinking: bool = False) -> None:
        self._buffer = ""
        self._calls = 0
        self._place: Literal["start", "thinking", "thought", "text", "call"] = "thinking" if thinking else "start"

    def feed(self, text: str) -> list[Event]:
        """The events that `text` completes."""
        self._buffer += text
        return self._events(final=False)

    def finish(self) -> list[Event]:
        """The events in what was held back, now that no more text comes."""
        return self._events(final=True)

    def _events(self, final: bool) -> list[Event]:
        events: list[Event] = []
        steps: dict[str, Callable[[bool, list[Event]], bool]] = {
            "start": self._start,
            "thinking": self._think,
            "thought": self._after_thought,
            "text": self._text,
            "call": self._call,
        }
        while steps[self._place](final, events):
            pass
        return events

    # Each step takes what it can off the buffer and says whether the next step has something to do.

    def _start(self, final: bool, events: list[Event]) -> bool:  # noqa: ARG002
        begun = self._buffer.lstrip()
        if begun.startswith(THINK_START):
            self._buffer, self._place = begun.removeprefix(THINK_START), "thinking"
            return True
        if not final and THINK_START.startswith(begun):
            return False
        self._place = "text"
        return True

    def _think(self, final: bool, events: list[Event]) -> bool:
        found = self._take_until((THINK_END,), final, lambda text: events.append(Thinking(text)))
        if found:
            self._place = "thought"
        return bool(found)

    def _after_thought(self, final: bool, events: list[Event]) -> bool:  # noqa: ARG002
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._place = "text"
        return bool(self._buffer)

    def _text(self, final: bool, events: list[Event]) -> bool:
        found = self._take_until((CALL_START, CALL_END), final, lambda text: events.append(Text(text)))
        if found == CALL_START:
            self._place = "call"
        return bool(found)  # a CALL_END without its start is dropped

    def _call(self, final: bool, events: list[Event]) -> bool:
        body, end, rest = self._buffer.partition(CALL_END)
        if not end and not final:
            return False
        self._buffer, self._place = rest, "text"
        events += self._read(body)
        return True

    def _read(self, body: str) -> list[Event]:
        try:
            calls = parse_calls(body)
        except ValueError:
            text = body.replace(CALL_START, "")
            return [Text(text)] if text else []
        first, self._calls = self._calls, self._calls + len(calls)
        return [ToolCall(f"call_{first + i}", name, arguments) for i, (name, arguments) in enumerate(calls)]

    def _take_until(self, marks: tuple[str, ...], final: bool, emit: Callable[[str], None]) -> str:
        """Emit the buffer up to the first of `marks`, drop that and return it; without one, hold what may begin one."""
        found = min((mark for mark in marks if mark in self._buffer), key=self._buffer.index, default="")
        held = 0 if found or final else overlap(self._buffer, marks)
        end = self._buffer.index(found) if found else len(self._buffer) - held
        if end:
            emit(self._buffer[:end])
        self._buffer = self._buffer[end + len(found) :]
        return found
