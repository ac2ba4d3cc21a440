"""The text of a reply -> thinking, text and tool calls, as it arrives.

A model of the family calls tools in Python's notation between two sentinels:
`<|tool_call_start|>[f(a="x", n=1), g()]<|tool_call_end|>`, before, after or amid its prose. docs/tools.md has a table
of what becomes of what it may write instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from headrace.events import Event, Text, Thinking, ToolCall, ToolCallDelta
from headrace.text.bare import Bound, Prose
from headrace.text.offered import Offered, bind
from headrace.text.pythonic import Call, Fragment, Unread, format_call, fragments, parse_calls, read_block
from headrace.text.sentinels import (
    CALL_END,
    CALL_START,
    SENTINEL,
    THINK_END,
    THINK_START,
    begun,
    without_sentinels,
)
from headrace.text.stream import overlap

__all__ = [
    "CALL_END",
    "CALL_START",
    "THINK_END",
    "THINK_START",
    "Reply",
    "ReplyParser",
    "Warned",
    "format_call",
    "parse_calls",
    "read_reply",
]

Warned = Literal["unknown_tool", "malformed_tool_call"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `content` is stripped at its ends; `thinking` is as it was; `warnings` has each kind once."""

    content: str
    thinking: str
    tool_calls: list[ToolCall]
    warnings: list[Warned]


class ReplyParser:
    """Feed it a reply in pieces of any size; the events do not depend on where the pieces end (once neighbouring
    pieces of text are joined).

    `offered` are the tools of the request; None: not known. Thinking is what stands between `<think>` at the very start
    and `</think>`; with `thinking` the prompt ended in `<think>`, so the reply begins inside. With `deltas` arguments
    come as ToolCallDelta while they are written, but only ToolCall says that there was a call: one that cannot be read
    comes back as text, without its sentinels. `warnings` has what was met until now.
    """

    __slots__ = ("_body", "_buffer", "_calls", "_deltas", "_offered", "_place", "_prose", "_seen", "_told", "warnings")

    def __init__(self, thinking: bool = False, offered: Offered | None = None, deltas: bool = False) -> None:
        self.warnings: list[Warned] = []
        self._offered = offered
        self._deltas = deltas
        self._prose = Prose(offered)
        self._buffer = ""
        self._body = ""  # of the last block
        self._told: list[Fragment] = []  # of the block that is being written
        self._seen = 0  # characters of it that were looked at
        self._calls = 0
        self._place: Literal["start", "thinking", "thought", "text", "call", "called"] = (
            "thinking" if thinking else "start"
        )

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
            "called": self._after_call,
        }
        while steps[self._place](final, events):
            pass
        return events

    # Each step takes what it can off the buffer and says whether the next step has something to do.

    def _start(self, final: bool, events: list[Event]) -> bool:  # noqa: ARG002
        text = self._buffer.lstrip()
        if text.startswith(THINK_START):
            self._buffer, self._place = text.removeprefix(THINK_START), "thinking"
            return True
        if not final and THINK_START.startswith(text):
            return False
        self._place = "text"
        return True

    def _think(self, final: bool, events: list[Event]) -> bool:
        before, end, rest = self._buffer.partition(THINK_END)
        held = 0 if end or final else overlap(before, (THINK_END,))
        thought, self._buffer = before[: len(before) - held], before[len(before) - held :]
        if thought:
            events.append(Thinking(thought))
        if end:
            self._buffer, self._place = rest, "thought"
        return bool(end)

    def _after_thought(self, final: bool, events: list[Event]) -> bool:  # noqa: ARG002
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            self._place = "text"
        return bool(self._buffer)

    def _text(self, final: bool, events: list[Event]) -> bool:
        mark = SENTINEL.search(self._buffer)
        end = mark.start() if mark else len(self._buffer) - (0 if final else begun(self._buffer))
        self._say(self._prose.feed(self._buffer[:end]), events)
        self._buffer = self._buffer[mark.end() if mark else end :]
        if mark is None and not final:
            return False
        if mark is None or mark[0] in (CALL_START, CALL_END):  # other special tokens are dropped, as if never there
            prose, calls = self._prose.finish(ends=mark is None or mark[0] == CALL_END)
            self._say(prose, events)
            for call in calls:
                self._add(call, "", events)
        if mark and mark[0] == CALL_START:
            self._place = "call"
        return mark is not None

    def _call(self, final: bool, events: list[Event]) -> bool:
        """A block: it ends at its sentinel, at the beginning of another, or where the reply does."""
        marks = [mark for mark in (CALL_START, CALL_END) if mark in self._buffer]
        mark = min(marks, key=self._buffer.index, default="")
        if not mark and not final:
            if self._deltas:
                self._tell_growing(events)
            return False
        body, _, self._buffer = self._buffer.partition(mark) if mark else (self._buffer, "", "")
        if mark != CALL_START:
            self._place = "called" if mark else "text"
        self._read(body, mark == CALL_END, events)
        return True

    def _read(self, body: str, whole: bool, events: list[Event]) -> None:
        if self._deltas:
            self._tell(fragments(body, self._names, growing=False), events)
        items = [self._bound(item, body) for item in read_block(body, self._names, whole)]
        if items and not any(isinstance(item, Bound) for item in items):
            items = [body]
        told = self._told_to(items)
        self._body = body.strip() if any(isinstance(item, Bound) for item in items) else ""
        for place, item in enumerate(items):
            if isinstance(item, Bound):
                self._add(item, told.get(place, ""), events)
                continue
            self._calls += 1
            self._warn("malformed_tool_call")
            self._say(without_sentinels(item), events)
            self._prose.interrupt()
        self._told, self._seen = [], 0

    def _told_to(self, items: list[Bound | str]) -> dict[int, str]:
        """What was told of each call. Where the end changes how they are to be read, calls begin anew, by other ids."""
        told: dict[int, str] = {}
        for fragment in self._told:
            told[fragment.call] = told.get(fragment.call, "") + fragment.json
        names = {fragment.call: fragment.name for fragment in self._told}
        for place, json_ in told.items():
            item = items[place] if place < len(items) else None
            if item is None or (
                isinstance(item, Bound) and (item.name != names[place] or not _json(item.arguments).startswith(json_))
            ):
                self._calls += len(told)
                return {}
        return told

    def _after_call(self, final: bool, events: list[Event]) -> bool:  # noqa: ARG002
        """Models repeat a body, with or without its end: that is dropped."""
        rest = self._buffer.lstrip()
        echoes = [echo for echo in (self._body, CALL_END) if echo]
        for echo in echoes:
            if rest.startswith(echo):
                self._buffer = rest.removeprefix(echo)
                return True
        if not final and any(echo.startswith(rest) for echo in echoes):
            return False
        self._place = "text"
        return True

    # What the steps tell.

    @property
    def _names(self) -> Collection[str]:
        return self._offered or ()

    def _say(self, text: str, events: list[Event]) -> None:
        if text:
            events.append(Text(text))

    def _warn(self, warning: Warned) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _bound(self, item: Call | Unread, body: str) -> Bound | str:
        """A call with its arguments by name, or the text of what is none."""
        if isinstance(item, Unread):
            return item.text
        try:
            return Bound(item.name, bind(item.positional, item.keywords, (self._offered or {}).get(item.name)))
        except ValueError:
            return body[item.start : item.end]

    def _add(self, call: Bound, told: str, events: list[Event]) -> None:
        """A call, after what was not yet told of its arguments."""
        if self._offered is not None and call.name not in self._offered:
            self._warn("unknown_tool")
        id_ = f"call_{self._calls}"
        if self._deltas and (untold := _json(call.arguments)[len(told) :]):
            events.append(ToolCallDelta(id_, call.name, untold))
        events.append(ToolCall(id_, call.name, call.arguments))
        self._calls += 1
        self._prose.interrupt()

    def _tell_growing(self, events: list[Event]) -> None:
        """Arguments of the block that is being written. Nothing is certain of one before a mark that follows it."""
        body = self._buffer[: len(self._buffer) - begun(self._buffer)]
        if any(mark in body[self._seen :] for mark in "=()"):
            self._tell(fragments(body, self._names), events)
        self._seen = len(body)

    def _tell(self, known: list[Fragment], events: list[Event]) -> None:
        events += [
            ToolCallDelta(f"call_{self._calls + fragment.call}", fragment.name, fragment.json)
            for fragment in known[len(self._told) :]
        ]
        self._told = known


def _json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def read_reply(text: str, offered: Offered | None = None, thinking: bool = False) -> Reply:
    """All of a reply at once. With `thinking`, a `</think>` may close what the prompt opened."""
    inside = thinking and THINK_END in text and not text.lstrip().startswith(THINK_START)
    parser = ReplyParser(inside, offered)
    events = parser.feed(text) + parser.finish()
    content = "".join(event.text for event in events if isinstance(event, Text))
    return Reply(
        content=without_sentinels(content).strip(),
        thinking="".join(event.text for event in events if isinstance(event, Thinking)),
        tool_calls=[event for event in events if isinstance(event, ToolCall)],
        warnings=parser.warnings,
    )
