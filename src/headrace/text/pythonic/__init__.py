"""Tool calls in Python's notation, as models of the family write them: `[f(a="x", n=1), g()]`.

literals.py and reader.py read it, requote.py mends quotes that were not escaped, block.py saves what can be saved,
partial.py reads it while it grows, writing.py writes it.
"""

from __future__ import annotations

from headrace.text.pythonic.block import Unread, read_block
from headrace.text.pythonic.partial import Fragment, fragments
from headrace.text.pythonic.reader import Call, More, Unreadable, parse_calls
from headrace.text.pythonic.writing import format_call

__all__ = [
    "Call",
    "Fragment",
    "More",
    "Unread",
    "Unreadable",
    "format_call",
    "fragments",
    "parse_calls",
    "read_block",
]
