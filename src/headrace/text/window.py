"""What of a chat is left out where it does not fit the context window, so that the newest of it does.

A chat goes by whole turns: a user's message and all that follows it up to the next one, so that no result of a tool is
left without its call. What the system says stays, wherever it stands, and so does the last turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from headrace.errors import RequestInvalid
from headrace.events import Dropped

Policy = Literal["error", "shift", "truncate"]
POLICIES: Final[tuple[str, ...]] = get_args(Policy)
KEPT_ROLES: Final = ("system", "developer")
DEFAULT_ROOM: Final = 4  # a quarter of the window is kept for a reply of which nothing is known
MOST_ROOM: Final = 2  # and never more than half: a num_predict beyond that is a limit, not a wish

Message = Mapping[str, Any]
Encode = Callable[[Sequence[Message]], list[int]]
Cut = Callable[[str, int], str]  # a text without so many of its first tokens
Prompt = tuple[list[int], Dropped | None]


@dataclass(frozen=True, slots=True)
class Window:
    """`num_ctx` tokens, which a prompt shares with its reply; a prompt is cut to leave `room` of them."""

    num_ctx: int
    room: int

    @classmethod
    def of(cls, num_ctx: int, num_predict: int) -> Window:
        """Room for `num_predict` tokens; for a quarter of the window where that is -1; at most for half of it."""
        wanted = num_ctx // DEFAULT_ROOM if num_predict < 0 else num_predict
        return cls(num_ctx, max(1, min(wanted, num_ctx // MOST_ROOM)))

    @property
    def limit(self) -> int:
        """The most tokens of a prompt."""
        return self.num_ctx - self.room


def checked(policy: object) -> Policy:
    """Raises RequestInvalid."""
    if policy not in POLICIES:
        raise RequestInvalid(f"context is {policy!r} but should be one of {', '.join(POLICIES)}")
    return cast(Policy, policy)


def shift(messages: Sequence[Message], encode: Encode, window: Window) -> Prompt:
    """The prompt of as many of the last turns as leave room for the reply, and what was left out.

    The last turn is never dropped: alone, it may take the reply's room, and where it is longer than the window, the
    prompt is. Renders the chat log2(turns) + 2 times at most.
    """
    whole = encode(messages)
    if len(whole) <= window.limit:
        return whole, None
    kept, prompt = _last_turns(messages, encode, window, whole)
    return prompt, _dropped(messages, kept, whole, prompt)


def truncate(messages: Sequence[Message], encode: Encode, cut: Cut, window: Window) -> Prompt:
    """As `shift`; but where the last turn alone leaves too little room, its longest text loses its beginning.

    That is the user's message, unless a tool gave back more; where it is not enough, the next longest follows. The
    texts keep at least half of what the rest of the prompt leaves of the window: a long list of tools takes the room
    from the reply and not from the question.
    """
    whole = encode(messages)
    if len(whole) <= window.limit:
        return whole, None
    kept, prompt = _last_turns(messages, encode, window, whole)
    if len(prompt) > window.limit:
        prompt = _cut_texts(kept, encode, cut, window, prompt)
    return prompt, _dropped(messages, kept, whole, prompt)


def end_of(ids: Sequence[int], head: int, window: Window) -> Prompt:
    """A raw prompt's first `head` tokens (its BOS) and as much of its end as leaves room for the reply."""
    over = len(ids) - window.limit
    if over <= 0:
        return list(ids), None
    return [*ids[:head], *ids[head + over :]], Dropped(0, over)


def _last_turns(
    messages: Sequence[Message], encode: Encode, window: Window, whole: list[int]
) -> tuple[Sequence[Message], list[int]]:
    """The most turns that leave room, but at least the last one, and their prompt; `whole` leaves none."""
    starts = _starts(messages)
    long, short = 0, len(starts) - 1  # turns to drop: too few, and enough
    if long == short:
        return messages, whole
    kept = _since(messages, starts[short])
    prompt = encode(kept)
    while len(prompt) <= window.limit and short - long > 1:
        middle = (long + short) // 2
        some = _since(messages, starts[middle])
        if len(tried := encode(some)) <= window.limit:
            short, kept, prompt = middle, some, tried
        else:
            long = middle
    return kept, prompt


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where turns begin. What stands before the first user's message is one, too."""
    spoken = [place for place, message in enumerate(messages) if message.get("role") not in KEPT_ROLES]
    return [place for place in spoken if place == spoken[0] or messages[place].get("role") == "user"] or [0]


def _since(messages: Sequence[Message], start: int) -> list[Message]:
    return [message for i, message in enumerate(messages) if i >= start or message.get("role") in KEPT_ROLES]


def _dropped(
    messages: Sequence[Message], kept: Sequence[Message], whole: list[int], prompt: list[int]
) -> Dropped | None:
    lost = Dropped(len(messages) - len(kept), len(whole) - len(prompt))
    return lost if lost.messages or lost.tokens else None


# Where a text stands: the place of its message, and of its part where the content is OpenAI's list of parts.
_Place = tuple[int, int | None]


def _cut_texts(messages: Sequence[Message], encode: Encode, cut: Cut, window: Window, prompt: list[int]) -> list[int]:
    """The prompt of the last turn, which has too little room, with its texts cut; the same where that is no use."""
    turn = list(messages)
    places = sorted(_texts(turn), key=lambda place: len(_text(turn, place)), reverse=True)
    bare = turn
    for place in places:
        bare = _with_text(bare, place, "")
    if (free := window.num_ctx - len(encode(bare))) < 2:  # without a word it is too long
        return prompt
    limit = window.num_ctx - max(1, min(window.room, free // 2))
    for place in places:
        while (over := len(prompt) - limit) > 0 and (text := _text(turn, place)):
            # What is left may be other tokens than it was amid the rest, so it may take more than one cut.
            rest = cut(text, over)
            turn = _with_text(turn, place, rest if len(rest) < len(text) else text[1:])
            prompt = encode(turn)
    return prompt


def _texts(messages: Sequence[Message]) -> list[_Place]:
    places = list[_Place]()
    for i, message in enumerate(messages):
        if message.get("role") in KEPT_ROLES:
            continue
        match message.get("content"):
            case str():
                places.append((i, None))
            case list() | tuple() as parts:
                places += [(i, k) for k, part in enumerate(parts) if isinstance(part.get("text"), str)]
    return places


def _text(messages: Sequence[Message], place: _Place) -> str:
    i, k = place
    content = messages[i]["content"]
    return str(content if k is None else content[k]["text"])


def _with_text(messages: Sequence[Message], place: _Place, text: str) -> list[Message]:
    i, k = place
    content: Any = text
    if k is not None:
        parts = messages[i]["content"]
        content = [*parts[:k], {**parts[k], "text": text}, *parts[k + 1 :]]
    return [*messages[:i], {**messages[i], "content": content}, *messages[i + 1 :]]
