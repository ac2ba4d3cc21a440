"""A chat -> token ids, in which nobody but the template, the system and the assistant can write a special token.

A sentinel in the content of a user or tool turn gets a guard character inside before rendering; special tokens are cut
out of the rendered text while it is there, then it is dropped. Without such sentinels the ids are transformers'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from headrace.errors import RequestInvalid
from headrace.text.messages import plain, plain_messages, plain_tools
from headrace.text.template import Template
from headrace.text.tokenizer import Tokenizer

# Turns whose sentinels are the model's and its owner's. Any other role is somebody else's text.
_TRUSTED: Final = frozenset({"system", "assistant"})

# Unicode's noncharacters: they are for use inside a program, and no text should hold one.
_NONCHARACTERS: Final = (
    *map(chr, range(0xFDD0, 0xFDF0)),
    *(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF)),
)


def encode_chat(
    template: Template,
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> list[int]:
    """The prompt of a chat, with exactly one BOS in front. Raises what `Template.render` raises."""
    chat = plain_messages(messages)
    sentinels = _Sentinels(tokenizer.special)
    if not any(_touches(turn, sentinels) for turn in chat if turn["role"] not in _TRUSTED):
        text = template.render(chat, tools, add_generation_prompt, **kwargs)
        return tokenizer.encode(text, add_bos=True)
    guard = _free_guard([chat, plain_tools(tools), plain(kwargs, "a template variable")])
    guarded = [turn if turn["role"] in _TRUSTED else _guard_turn(turn, sentinels, guard) for turn in chat]
    text = template.render(guarded, tools, add_generation_prompt, **kwargs)
    # A template may write its JSON in ASCII; the guard must still be there when special tokens are cut out.
    text = text.replace(_escape(guard), guard)
    return tokenizer.with_bos(tokenizer.encode_guarded(text, guard))


class _Sentinels:
    """The contents of a tokenizer's special tokens, ready to be looked for."""

    __slots__ = ("_contents", "_firsts", "_heads", "_longest")

    def __init__(self, contents: Iterable[str]) -> None:
        self._contents = tuple(contents)
        self._firsts = frozenset(content[0] for content in self._contents)
        self._longest = max(map(len, self._contents), default=0)
        # Two characters tell most places apart; a lookahead finds sentinels that overlap, too.
        heads = sorted({content[:2] for content in self._contents})
        self._heads = re.compile(f"(?={'|'.join(map(re.escape, heads))})" if heads else "(?!)")

    def starts(self, text: str) -> list[int]:
        """Where one begins in `text`, or might begin: the end of `text` may be the start of one that is completed by
        what a template puts after it, as when it joins two content parts."""
        whole = {match.start() for match in self._heads.finditer(text) if self._at(text, match.start())}
        tail = range(max(0, len(text) - self._longest + 1), len(text))
        return sorted(whole.union(place for place in tail if self._begun(text, place)))

    def _at(self, text: str, place: int) -> bool:
        return text.startswith(self._contents, place)

    def _begun(self, text: str, place: int) -> bool:
        return text[place] in self._firsts and any(content.startswith(text[place:]) for content in self._contents)


def _touches(value: Any, sentinels: _Sentinels) -> bool:
    match value:
        case str():
            return bool(sentinels.starts(value))
        case dict():
            return any(_touches(part, sentinels) for pair in value.items() for part in pair)
        case list() | tuple():
            return any(_touches(item, sentinels) for item in value)
    return False


def _guard_turn(turn: dict[str, Any], sentinels: _Sentinels, guard: str) -> dict[str, Any]:
    return {key: value if key == "role" else _guard(value, sentinels, guard) for key, value in turn.items()}


def _guard(value: Any, sentinels: _Sentinels, guard: str) -> Any:
    """`value` with `guard` after the first character of each sentinel in its strings, keys included."""
    match value:
        case str():
            cuts = [0, *(start + 1 for start in sentinels.starts(value)), len(value)]
            return guard.join(value[start:end] for start, end in pairwise(cuts))
        case dict():
            return {_guard(key, sentinels, guard): _guard(item, sentinels, guard) for key, item in value.items()}
        case list():
            return [_guard(item, sentinels, guard) for item in value]
        case tuple():
            return tuple(_guard(item, sentinels, guard) for item in value)
    return value


def _free_guard(data: Collection[Any]) -> str:
    """A noncharacter that `data` holds neither as itself nor as a JSON escape."""
    text = json.dumps(data, ensure_ascii=False)
    for guard in _NONCHARACTERS:
        if guard not in text and _escape(guard) not in text:
            return guard
    raise RequestInvalid("the messages hold all of Unicode's noncharacters beside a special token: leave one out")


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]
