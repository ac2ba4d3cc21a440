"""The family's special tokens, as text."""

from __future__ import annotations

import re
from typing import Final

CALL_START: Final = "<|tool_call_start|>"
CALL_END: Final = "<|tool_call_end|>"
THINK_START: Final = "<think>"
THINK_END: Final = "</think>"

SENTINEL: Final = re.compile(
    r"<\|(?:pad|startoftext|endoftext|fim_(?:pre|mid|suf)|im_(?:start|end)|tool_(?:list|call|response)_(?:start|end)"
    r"|reserved_\d{1,4}|(?:cot|review|file)_(?:start|end))\|>"
)
_BEGUN: Final = re.compile(r"<(?:\|(?:[a-z]\w{0,20}\|?)?)?\Z")


def begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a sentinel."""
    match = _BEGUN.search(text, max(0, len(text) - 25))
    return len(match[0]) if match else 0


def without_sentinels(text: str) -> str:
    """Text in which nothing looks like a special token, not even what is left when one is taken out."""
    count = 1
    while count:
        text, count = SENTINEL.subn("", text)
    return text
