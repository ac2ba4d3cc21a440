"""JSON that stays on its line, whatever is in it: for streams whose readers take lines for pieces."""

from __future__ import annotations

from typing import Any

import msgspec

EVENT_STREAM = "text/event-stream; charset=utf-8"
LAST_EVENT = b"data: [DONE]\n\n"  # of OpenAI's streams

# Where lines end by all of Unicode's rules: Python's splitlines, and so httpx's iter_lines, go by them. JSON has these
# within strings only, where they may be written as escapes.
_LINE_ENDS = {end.encode(): f"\\u{ord(end):04x}".encode() for end in "\x85\u2028\u2029"}


def one_line(value: Any) -> bytes:
    text = msgspec.json.encode(value)
    for end, escape in _LINE_ENDS.items():
        if end in text:
            text = text.replace(end, escape)
    return text


def server_sent(value: Any) -> bytes:
    """One event."""
    return b"data: " + one_line(value) + b"\n\n"
