"""Token ids -> visible text, piece by piece: whole characters, hidden special tokens, stop strings that span tokens."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from headrace.errors import RequestInvalid
from headrace.text.tokenizer import Tokenizer


class TextStream:
    """The text of one answer as its tokens arrive.

    Together, the pieces of `push` and `finish` are `tokenizer.decode(ids)`, cut before the stop string that is complete
    first (of those that are complete at the same character: the longest). Text that might begin a stop string is held
    back. Special tokens are hidden, except the ids in `keep`; a hidden one whose content is a stop string stops too.
    """

    __slots__ = ("_decoder", "_held", "_hidden", "_stops", "_tokenizer", "stopped")

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), keep: Collection[int] = ()) -> None:
        """Raises RequestInvalid for stops that are no list of strings with something in them."""
        if isinstance(stops, str) or not all(isinstance(stop, str) and stop for stop in stops):
            raise RequestInvalid(f"stop is {stops!r}: expected a list of strings, none of them empty")
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._hidden = tokenizer.special_ids.difference(keep)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take one token; the text that became visible by it, often none."""
        if self.stopped or token >= self._tokenizer.vocab_size:  # a padding row of the embedding has no text
            return ""
        if token not in self._hidden:
            return self._show(self._decoder.decode(self._tokenizer.token_bytes(token)))
        if self._stops and self._tokenizer.token_bytes(token).decode(errors="replace") in self._stops:
            visible = self.finish()
            self.stopped = True
            return visible
        return ""

    def finish(self) -> str:
        """What was held back, now that no more tokens come; a character that is not whole becomes U+FFFD."""
        if self.stopped:
            return ""
        visible = self._show(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return visible + held

    def _show(self, text: str) -> str:
        text = self._held + text
        if (end := _first_stop(text, self._stops)) is not None:
            self.stopped, self._held = True, ""
            return text[:end]
        cut = len(text) - overlap(text, self._stops)
        self._held = text[cut:]
        return text[:cut]


def overlap(text: str, patterns: Sequence[str]) -> int:
    """How many characters at the end of `text` begin one of `patterns` without being all of it: the most there are."""
    longest = min(len(text), max(map(len, patterns), default=0) - 1)
    for length in range(longest, 0, -1):
        end = text[-length:]
        if any(len(pattern) > length and pattern.startswith(end) for pattern in patterns):
            return length
    return 0


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string begins that is complete first in `text`: so the answer does not depend on token borders."""
    found = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    return min(found)[1] if found else None
