"""From a request to what the engine is asked for: the prompt's token ids, and the form that the answer must have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from headrace.checkpoint import Checkpoint
from headrace.engine.parameters import Parameters
from headrace.engine.request import Asked
from headrace.errors import ContextExceeded, RequestInvalid
from headrace.events import Dropped
from headrace.reply import Decode, ReplyEvents
from headrace.text import window
from headrace.text.calls import ReplyParser
from headrace.text.constraint import Constraint, Constraints, Form
from headrace.text.following import follow
from headrace.text.prompt import encode_chat
from headrace.text.repair import write_calls
from headrace.text.template import Template
from headrace.tools.loop import Toolbox
from headrace.tools.schema import parameters_of

MOST_LOGPROBS = 20  # likely tokens, for each token
LARGEST_WINDOW = 2**31 - 1
KEPT_TOKENS = (
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<think>",
    "</think>",
)  # the reply's structure, for the parser

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of the engine for one answer. A constraint and a parser are made for each sequence."""

    prompt: list[int]
    sampling: Parameters
    constraint: Callable[[], Constraint | None]
    num_ctx: int  # the window of this request
    parser: Callable[[], ReplyParser] | None = None
    keep: Collection[int] = ()  # special tokens that the text keeps
    dropped: Dropped | None = None
    asked: Asked = field(default_factory=Asked)
    loop_guard: bool = True

    def reply(self, decode: Decode) -> ReplyEvents:
        return ReplyEvents(decode, self.parser and self.parser(), self.dropped)

    def check(self, model_ctx: int) -> None:
        """Raises RequestInvalid and ContextExceeded for a prompt that cannot be answered; `model_ctx` is the model's
        own window."""
        if not self.prompt:
            raise RequestInvalid("the prompt is empty: there is nothing that the model could continue")
        if len(self.prompt) >= self.num_ctx + (self.sampling.num_predict == 0):
            raise ContextExceeded(len(self.prompt), self.num_ctx, model_ctx)


@dataclass(frozen=True, slots=True)
class _Chat:
    """What all turns of one conversation share."""

    toolbox: Toolbox
    sampling: Parameters
    form: Form
    template: Template
    num_ctx: int
    policy: window.Policy = "error"
    asked: Asked = field(default_factory=Asked)
    loop_guard: bool = True
    deltas: bool = False
    after: Sequence[int] = ()  # the ids that it follows
    goes_on: bool = False  # the reply, with what the last message says


@dataclass(frozen=True, slots=True)
class Jobs:
    """Makes jobs of conversations and texts, for one model. `cache_tokens` is what its cache has memory for."""

    source: Checkpoint
    constraints: Constraints
    num_ctx: int
    cache_tokens: int

    def of_chat(
        self,
        toolbox: Toolbox,
        num_ctx: int | None = None,
        deltas: bool = False,
        *,
        format: Any = None,  # noqa: A002 - Ollama's name, and everybody's
        tool_choice: Any = "auto",
        parallel_tool_calls: bool = True,
        think: bool | None = None,
        constrain: bool = True,
        context: window.Policy = "error",
        loop_guard: bool = True,
        logprobs: int | None = None,
        experts: bool = False,
        template: str | None = None,
        after: Sequence[int] = (),
        goes_on: bool = False,
        **parameters: Any,
    ) -> Callable[[Sequence[Message], str | None], Job]:
        """Makes jobs of conversations; the second argument is a `tool_choice` that takes the place of the first."""
        self.check_ids(after)
        chat = _Chat(
            toolbox,
            self.parameters(parameters),
            Form(format, tool_choice, parallel_tool_calls, think, constrain),
            self._template(template),
            self._narrower(num_ctx),
            window.checked(context),
            _asked(logprobs, experts),
            loop_guard,
            deltas,
            after,
            goes_on,
        )

        def job(messages: Sequence[Message], choice: str | None) -> Job:
            return self._turn(messages, chat if choice is None else replace(chat, form=chat.form.with_choice(choice)))

        return job

    def of_texts(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        num_ctx: int | None = None,
        format: Any = None,  # noqa: A002
        context: window.Policy = "error",
        loop_guard: bool = True,
        logprobs: int | None = None,
        echo: bool = False,
        ends: bool = False,
        experts: bool = False,
        **parameters: Any,
    ) -> list[Job]:
        """One for each text, or its token ids."""
        sampling, asked = self.parameters(parameters), replace(_asked(logprobs, experts), echo=echo, ends=ends)
        narrower, policy = self._narrower(num_ctx), window.checked(context)
        constraint = partial(self.constraints.of_text, format)
        constraint()  # what is wrong with the form is said now
        jobs = []
        for one in prompts:
            prompt, dropped = self.prompt(one), None
            if policy != "error":
                head = len(self.source.tokenizer.with_bos([]))
                prompt, dropped = window.end_of(prompt, head, self._window(sampling, narrower))
            jobs.append(
                Job(prompt, sampling, constraint, narrower, dropped=dropped, asked=asked, loop_guard=loop_guard)
            )
        return jobs

    def of_ids(self, token_ids: Sequence[int], **parameters: Any) -> Job:
        """One that goes on with these ids as they are."""
        self.check_ids(token_ids)
        return Job(list(token_ids), self.parameters(parameters), lambda: None, self.num_ctx)

    def conversation(self, messages: Sequence[Message], toolbox: Toolbox, think: bool | None) -> list[int]:
        """The prompt of a whole conversation, of any length."""
        form = Form(think=think)
        chat = _Chat(toolbox, self.parameters({}), form, self.source.template, self.num_ctx)
        return self._prompt(messages, chat)[0]

    def prompt(self, text: str | Sequence[int]) -> list[int]:
        """The token ids that stand for a text, or for ids, where nothing is before it: with one BOS."""
        if isinstance(text, str):
            return self.source.tokenizer.encode(text, add_bos=True)
        self.check_ids(text)
        return self.source.tokenizer.with_bos(list(text))

    def parameters(self, given: Mapping[str, Any]) -> Parameters:
        """The model's own, with those given in their place."""
        parameters = self.source.defaults.parameters.override(**given)
        self.check_ids(parameters.logit_bias)
        return parameters

    def check_ids(self, ids: Iterable[int]) -> None:
        """Raises RequestInvalid for one that is not in the vocabulary."""
        vocab_size = self.source.backbone.vocab_size
        for id_ in ids:
            if not 0 <= id_ < vocab_size:
                raise RequestInvalid(f"token id {id_} is out of range: the model has {vocab_size} tokens")

    def _turn(self, messages: Sequence[Message], chat: _Chat) -> Job:
        """What one assistant turn asks of the engine."""
        prompt, dropped = self._prompt(messages, chat)
        _, thinking = self.constraints.think(prompt, chat.form.think)  # which has been done to the prompt
        schemas = chat.toolbox.schemas

        def constraint() -> Constraint | None:
            return self.constraints.of_reply(chat.form, schemas, thinking)

        def parser() -> ReplyParser:
            return ReplyParser(thinking, dict(map(parameters_of, schemas)), chat.deltas)

        found = map(self.source.tokenizer.id_of, KEPT_TOKENS)
        keep = {id_ for id_ in found if id_ is not None}
        return Job(prompt, chat.sampling, constraint, chat.num_ctx, parser, keep, dropped, chat.asked, chat.loop_guard)

    def _prompt(self, messages: Sequence[Message], chat: _Chat) -> window.Prompt:
        """The prompt of a conversation, or of what of it fits the window, and what was left out."""
        tokenizer, think = self.source.tokenizer, chat.form.think
        if not chat.after:
            messages = self.source.preset.before(messages)
        switch = {} if think is None else {"enable_thinking": think}  # for templates that have one
        if chat.goes_on:
            switch["continue_final_message"] = True

        def encode(turns: Sequence[Message]) -> list[int]:
            turns = write_calls(turns, chat.template)
            prompt = encode_chat(chat.template, tokenizer, turns, tools=chat.toolbox.schemas or None, **switch)
            if chat.after:
                prompt = follow(chat.after, prompt, chat.template, tokenizer, self.source.end_ids)
            return self.constraints.think(prompt, think)[0]

        match chat.policy:
            case "shift":
                return window.shift(messages, encode, self._window(chat.sampling, chat.num_ctx))
            case "truncate":
                fits = self._window(chat.sampling, chat.num_ctx)
                return window.truncate(messages, encode, tokenizer.without_first, fits)
        return encode(messages), None

    def _template(self, source: str | None) -> Template:
        if source is None:
            return self.source.template
        return Template(source, self.source.tokenizer.special_names)

    def _narrower(self, num_ctx: int | None) -> int:
        """The window of one request."""
        if num_ctx is None:
            return self.num_ctx
        check_size("num_ctx", num_ctx, LARGEST_WINDOW)
        return min(num_ctx, self.num_ctx)

    def _window(self, sampling: Parameters, num_ctx: int) -> window.Window:
        """That of the request, or what of it the cache has memory for."""
        return window.Window.of(min(num_ctx, self.cache_tokens), sampling.num_predict)


def _asked(logprobs: int | None, experts: bool) -> Asked:
    if logprobs is None:
        return Asked(experts=experts)
    if isinstance(logprobs, bool) or not isinstance(logprobs, int) or not 0 <= logprobs <= MOST_LOGPROBS:
        raise RequestInvalid(f"logprobs is {logprobs!r} but should be a whole number from 0 to {MOST_LOGPROBS}")
    return Asked(logprobs, experts=experts)


def window_of(source: Checkpoint, num_ctx: int | None) -> int:
    """In tokens: what was asked for, else the model's own. Raises RequestInvalid."""
    tokens = source.context_length if num_ctx is None else num_ctx
    check_size("num_ctx", tokens, source.backbone.max_position_embeddings)
    return tokens


def check_size(name: str, value: int, most: int) -> None:
    """Raises RequestInvalid where it is no whole number from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise RequestInvalid(f"{name} is {value!r} but should be a whole number from 1 to {most}")
