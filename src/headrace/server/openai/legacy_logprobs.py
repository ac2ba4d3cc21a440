"""Log-probabilities as `/v1/completions` has them: columns, one row for each token."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.events import Token
from headrace.text.tokenizer import Tokenizer


class Row(NamedTuple):
    """`offset` counts the characters of the choice's text that stand before the token."""

    id: int
    token: str
    logprob: float | None
    top: dict[str, float] | None
    offset: int


@dataclass(slots=True)
class Rows:
    """Makes rows of the tokens of one choice, in their order."""

    tokenizer: Tokenizer
    characters: int = 0
    _decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def row(self, token: Token) -> Row:
        offset = self.characters
        if token.of_prompt or token.id not in self.tokenizer.special_ids:  # those of an answer are hidden
            self.characters += len(self._decoder.decode(self._bytes(token.id)))
        return Row(token.id, self._name(token.id, token.text), token.logprob, self._top(token), offset)

    def _top(self, token: Token) -> dict[str, float] | None:
        """The likely tokens and the one that came. Of two that read alike the likelier one is told."""
        if token.logprob is None:
            return None
        top: dict[str, float] = {}
        for id_, text, logprob in (*token.top, (token.id, token.text, token.logprob)):
            top.setdefault(self._name(id_, text), logprob)
        return top

    def _name(self, id_: int, text: str) -> str:
        """Its text; where it is but a part of a character its bytes, as OpenAI writes them."""
        whole = self._bytes(id_)
        try:
            whole.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in whole)
        return text

    def _bytes(self, id_: int) -> bytes:
        return self.tokenizer.token_bytes(id_) if id_ < self.tokenizer.vocab_size else b""


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """`token_ids` is ours: texts of tokens do not always tell them apart."""
    return {
        "tokens": [row.token for row in rows],
        "token_logprobs": [row.logprob for row in rows],
        "top_logprobs": [row.top for row in rows],
        "text_offset": [row.offset for row in rows],
        "token_ids": [row.id for row in rows],
    }
