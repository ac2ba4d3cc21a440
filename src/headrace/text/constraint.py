"""What a reply may be as it grows: free text, thinking, calls, an answer in a given form; and which of its tokens are
masked or forced at each place.

Grammars are at work only where a form is asked for. Free text and thinking cost nothing: there one watches for the
token that begins a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from headrace.errors import RequestInvalid
from headrace.text.call_grammar import call_list
from headrace.text.calls import CALL_END, CALL_START, THINK_END, THINK_START
from headrace.text.grammar import Grammars, Mask, Matcher, answer_grammar

CHOICES: Final = ("auto", "none", "required")
Place = Enum("Place", "BEGIN THINKING TEXT CALLS ANSWER END OVER")


@dataclass(frozen=True, slots=True)
class Form:
    """The form that is asked of a reply.

    `format` is what the answer must be: "json", a JSON schema, {"regex" | "lark" | "gbnf" | "choices": ...} or None.
    `tool_choice` is "auto", "none", "required", the name of a tool, or OpenAI's object that names one. `think` leaves
    thinking to the model (None), begins with it (True) or forbids it (False). Without `constrain` calls are not held to
    their tools' schemas.
    """

    format: Any = None
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    think: bool | None = None
    constrain: bool = True

    def with_choice(self, choice: str) -> Form:
        return replace(self, tool_choice=choice)

    def offered(self, tools: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Those of the tools that may be called. Raises RequestInvalid for a choice that is none."""
        choice: Any = self.tool_choice
        if isinstance(choice, Mapping):
            inner = choice.get("function", choice)
            choice = inner.get("name") if isinstance(inner, Mapping) else None
        elif choice in CHOICES:
            if choice == "required" and not tools:
                raise RequestInvalid("tool_choice is 'required' but no tool is offered: give tools")
            return () if choice == "none" else tools
        names = [tool.get("function", tool).get("name") for tool in tools]
        if choice not in names:
            raise RequestInvalid(
                f"tool_choice is {str(self.tool_choice)[:60]!r} but should be auto, none, required or a tool's name"
                + (f": {', '.join(names)}" if names else "; no tool is offered")
            )
        return [tools[names.index(choice)]]

    @property
    def demands_a_call(self) -> bool:
        return self.tool_choice not in ("auto", "none")


@dataclass(slots=True)
class Constraint:
    """Owned by one sequence. `mask` says what may come next, `accept` takes what came and gives what must follow.

    With `free` a reply is text, and calls where `calls` allows them; else it is what `answer` allows, or calls.
    `banned` are tokens that free text must not hold.
    """

    grammars: Grammars
    tokens: Mapping[str, int | None]  # the sentinels' ids
    calls: Matcher | None = None
    answer: Matcher | None = None
    free: bool = True
    several: bool = True  # call lists, in free text
    may_think: bool = False
    banned: frozenset[int] = frozenset()
    place: Place = Place.BEGIN
    fast_forward: bool = True
    _last: bytes = b""
    _mask: Mask | None = None
    _known: bool = False  # whether _mask is that of the present place
    _unbanned: Mask | None = None  # of free text

    def begin(self) -> list[int]:
        """The tokens that the reply must begin with, often none."""
        return self._forced()

    def mask(self) -> Mask | None:
        """What may come next, None for anything. Computed once at each place. Raises RequestInvalid."""
        if not self._known:
            self._mask, self._known = self._allowed(), True
        return self._mask

    def accept(self, token: int) -> list[int]:
        """Goes on by a token that was chosen; the tokens that must follow it, which are thereby accepted too."""
        self._go(token)
        return self._forced()

    def ahead(self, draft: Sequence[int]) -> tuple[list[int], list[Mask | None]]:
        """As much of a draft as may come, and the masks of its places: the present one, and that after each token.

        Changes nothing. A mask is None where anything may come, and where the next token is forced.
        """
        calls, answer = self.calls and self.calls.copy(), self.answer and self.answer.copy()
        trial = replace(self, calls=calls, answer=answer)
        may_come, masks, forced = list[int](), [self.mask()], list[int]()
        for token in draft:
            mask = masks[-1]
            if (forced and forced[0] != token) or (mask is not None and not mask[token // 32] >> token % 32 & 1):
                break
            forced = forced[1:] if forced else trial.accept(token)
            may_come.append(token)
            masks.append(None if forced else trial.mask())
        return may_come, masks

    def _forced(self) -> list[int]:
        forced: list[int] = []
        while self.fast_forward and (tokens := self._next_forced()):
            for token in tokens:
                self._go(token)
            forced += tokens
        return forced

    def _next_forced(self) -> list[int]:
        match self.place:
            case Place.BEGIN if not self.free and not self.may_think:
                if self.answer is None:
                    return self._call_start()
                return self.answer.forced() if self.calls is None else []
            case Place.CALLS if self.calls:
                return self.calls.forced()
            case Place.ANSWER if self.answer:
                return self.answer.forced()
            case Place.END:
                return [self.grammars.end_id]
        return []

    def _go(self, token: int) -> None:
        self._known = False
        match self.place:
            case Place.BEGIN:
                self._begin(token)
            case Place.THINKING:
                if token == self.tokens[THINK_END]:
                    self.place, self.may_think = Place.BEGIN, False
            case Place.TEXT:
                self._text(token)
            case Place.CALLS if self.calls:
                self._call(token, self.calls)
            case Place.ANSWER if self.answer:
                self._say(token, self.answer)
            case Place.END:
                self.place = Place.OVER

    def _begin(self, token: int) -> None:
        if token == self.tokens[THINK_START] and self.may_think:
            self.place = Place.THINKING
        elif not self.free and token == self.tokens[CALL_START] and self.calls:
            self.place = Place.CALLS
        elif self.answer and not self.free:
            self._say(token, self.answer)
        else:
            self._text(token)

    def _text(self, token: int) -> None:
        if token == self.tokens[CALL_START] and self.calls:
            self.place = Place.CALLS
        elif self.place is Place.BEGIN and not self.grammars.tokenizer.known_bytes(token).isspace():
            self.place = Place.TEXT  # after more than space nothing begins to think

    def _say(self, token: int, answer: Matcher) -> None:
        answer.accept(token)
        self.place = Place.END if answer.complete else Place.ANSWER

    def _call(self, token: int, calls: Matcher) -> None:
        calls.accept(token)
        self._last = self.grammars.tokenizer.known_bytes(token)[-1:]
        if token != self.tokens[CALL_END]:
            return
        calls.reset()
        self.place = Place.TEXT if self.free else Place.END
        if not self.several:
            self.calls = None
            self.banned, self._unbanned = self.banned.union(self._call_start()), None

    def _allowed(self) -> Mask | None:
        match self.place:
            case Place.BEGIN if not self.free:
                begun = [*(self._call_start() if self.calls else ()), *(self._think_start() if self.may_think else ())]
                mask = self.grammars.mask(begun)
                return mask if self.answer is None else mask | self.answer.mask()
            case Place.BEGIN | Place.TEXT:
                return self._free_mask()
            case Place.CALLS if self.calls:
                return self._without_sentinels(self.calls.mask())
            case Place.ANSWER if self.answer:
                return self.answer.mask()
            case Place.END:
                return self.grammars.mask([self.grammars.end_id])
        return None

    def _without_sentinels(self, mask: Mask) -> Mask:
        """No string may spell a sentinel with ordinary tokens: whoever reads the text would see the call end there."""
        vocabulary = self.grammars.vocabulary()
        kept = mask & vocabulary.no_sentinel
        if self._last == b"<":
            kept &= vocabulary.no_bar
        return kept if kept.any() else mask

    def _free_mask(self) -> Mask | None:
        if self.banned and self._unbanned is None:
            self._unbanned = self.grammars.all_but(self.banned)
        return self._unbanned

    def _call_start(self) -> list[int]:
        return self._ids(CALL_START)

    def _think_start(self) -> list[int]:
        return self._ids(THINK_START)

    def _ids(self, name: str) -> list[int]:
        token = self.tokens[name]
        return [] if token is None else [token]


class Constraints:
    """Makes the constraints of a model's replies."""

    __slots__ = ("_grammars", "_tokens")

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._tokens = {name: grammars.tokenizer.id_of(name) for name in (CALL_START, CALL_END, THINK_START, THINK_END)}

    @property
    def can_think(self) -> bool:
        """Whether the vocabulary has tokens that a thought stands between."""
        return self._tokens[THINK_START] is not None and self._tokens[THINK_END] is not None

    def think(self, prompt: list[int], asked: bool | None) -> tuple[list[int], bool]:
        """The prompt with a thought opened or closed at its end, as asked, and whether the reply begins inside one.

        Some templates open a thought by themselves. Raises RequestInvalid where the model has no tokens for thinking.
        """
        start, end = self._tokens[THINK_START], self._tokens[THINK_END]
        opened = self._grammars.tokenizer.decode(prompt[-8:], skip_special=False).rstrip().endswith(THINK_START)
        if start is None or end is None:
            if asked:
                raise RequestInvalid("think: this model cannot think aloud, its vocabulary has no tokens for it")
            return prompt, opened
        if asked and not opened:
            return [*prompt, start], True
        if asked is False and opened:
            return [*prompt, end], False
        return prompt, opened

    def of_text(self, format_: Any) -> Constraint | None:
        """For a text that is continued as it stands."""
        if format_ is None:
            return None
        return self._checked(self._made(answer=self._grammars.matcher(answer_grammar(format_)), free=False))

    def of_reply(self, form: Form, tools: Sequence[Mapping[str, Any]], thinking: bool) -> Constraint | None:
        """For a reply; `thinking` where the prompt ends inside a thought. None where anything goes.

        Grammars are compiled here, in the asker's thread, and the first mask is computed, while others' steps run.
        Raises RequestInvalid for what is asked of the form, or what a tool's schema says, in vain.
        """
        offered = form.offered(tools)
        answer = None if form.format is None else self._grammars.matcher(answer_grammar(form.format))
        if form.demands_a_call and (not form.constrain or self._tokens[CALL_START] is None):
            why = "constrain is off" if not form.constrain else "the model's vocabulary has no token that begins a call"
            raise RequestInvalid(f"tool_choice {form.tool_choice!r} cannot be kept: {why}")
        calls = self._calls(offered, form) if form.constrain else None
        banned: set[int | None] = set()
        if tools and not offered:
            banned.add(self._tokens[CALL_START])
        if form.think is False and not thinking:
            banned.add(self._tokens[THINK_START])
        made = self._made(
            calls=calls,
            answer=None if form.demands_a_call else answer,
            free=answer is None and not form.demands_a_call,
            several=form.parallel_tool_calls,
            may_think=self._tokens[THINK_START] is not None and form.think is not False and not thinking,
            banned=frozenset(token for token in banned if token is not None),
            place=Place.THINKING if thinking else Place.BEGIN,
        )
        return self._checked(made) if calls or answer or made.banned else None

    def _calls(self, tools: Sequence[Mapping[str, Any]], form: Form) -> Matcher | None:
        end = self._tokens[CALL_END]
        if not tools or end is None or self._tokens[CALL_START] is None:
            return None
        return self._grammars.lark(call_list(tools, f"<[{end}]>", form.parallel_tool_calls))

    def _made(self, **fields: Any) -> Constraint:
        return Constraint(self._grammars, self._tokens, **fields)

    def _checked(self, constraint: Constraint) -> Constraint:
        constraint.mask()
        return constraint
