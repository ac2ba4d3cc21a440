"""A conversation that follows the token ids of an earlier one: Ollama's `context`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from headrace.text.prompt import encode_chat
from headrace.text.template import Template
from headrace.text.tokenizer import Tokenizer

_EXCHANGE: Final = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})


def follow(
    after: Sequence[int], prompt: Sequence[int], template: Template, tokenizer: Tokenizer, end_ids: Collection[int]
) -> list[int]:
    """The ids of a prompt that follows those of another prompt and its answer, which need not have come to its end.

    The answer is closed as the template closes one, so that the ids are those of the whole conversation, rendered at
    once, where the answer's tokens are those of its text. There is one BOS, at the beginning.
    """
    closing = _closing(template, tokenizer, end_ids)
    if after[-1] in end_ids:
        closing = closing[1:]
    return tokenizer.with_bos([*after, *closing, *prompt[len(tokenizer.with_bos([])) :]])


def _closing(template: Template, tokenizer: Tokenizer, end_ids: Collection[int]) -> list[int]:
    """The end of an answer, and what the template puts behind it; nothing for one that has no such end."""
    ids = encode_chat(template, tokenizer, _EXCHANGE, add_generation_prompt=False)
    last = max((place for place, id_ in enumerate(ids) if id_ in end_ids), default=len(ids))
    return ids[last:]
