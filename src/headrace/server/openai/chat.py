"""`/v1/chat/completions` of OpenAI's API."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from headrace.answers import Answers
from headrace.errors import RequestInvalid
from headrace.events import Done, Event, Text, Thinking, Token, ToolCall, ToolCallDelta
from headrace.jobs import MOST_LOGPROBS
from headrace.model import Model
from headrace.server.endpoint import Call, Reply, Stream
from headrace.server.lines import EVENT_STREAM
from headrace.server.openai.errors import Dialect
from headrace.server.openai.facts import FINISH_REASONS, Facts
from headrace.server.openai.messages import AnyTurn, Choice, Exact, Tool, offered, turns
from headrace.server.openai.replies import Ask, answering, chunks, stopped
from headrace.server.openai.sampling import Sampled
from headrace.server.serving import Running
from headrace.server.wire import Limits, check_form
from headrace.text.calls import THINK_END

DIALECT = Dialect(prompt="messages", cuts=True)


class TextFormat(Exact, tag_field="type", tag="text"):
    pass


class ObjectFormat(Exact, tag_field="type", tag="json_object"):
    schema: dict[str, Any] | bool | None = None  # as llama.cpp's server has it


class Schema(Exact):
    schema: dict[str, Any] | bool
    name: str | None = None
    description: str | None = None
    strict: bool | None = None  # a schema is kept to in any case


class SchemaFormat(Exact, tag_field="type", tag="json_schema"):
    json_schema: Schema


class TemplateSwitches(Exact):
    enable_thinking: bool | None = None


class ChatCompletion(Sampled, kw_only=True):
    refused: ClassVar[Mapping[str, str]] = {
        "functions": "it is gone from OpenAI's API: give tools",
        "function_call": "it is gone from OpenAI's API: give tool_choice",
        "audio": "models here write text alone",
        "web_search_options": "there is no search here: offer a tool",
        "verbosity": "models here know no such thing: say it in a message",
    }

    messages: list[AnyTurn]
    max_completion_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    tools: list[Tool] = msgspec.field(default_factory=list)
    tool_choice: Choice = "auto"
    parallel_tool_calls: bool = True
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    modalities: list[Literal["text"]] | None = None

    def ask(self, limits: Limits) -> Ask:
        """Raises RequestInvalid for what is wrong whatever the model; what is returned, for the rest."""
        self.check()
        tools, choice = offered(self.tools, self.tool_choice)
        check_form("tools", tools, limits)
        check_form("response_format", self.format, limits)
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestInvalid("top_logprobs is of logprobs: set it to true, or leave both out", "top_logprobs")
        think = self.think
        options = {
            **self.sampling(),
            "n": self.n,
            "num_predict": self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            "format": self.format,
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls,
            "think": think,
            "logprobs": (self.top_logprobs or 0) if self.logprobs else None,
            "deltas": self.stream,
        }
        messages = turns(self.messages)

        def ask(model: Model) -> Answers:
            if think and not model.can_think:
                named = "reasoning_effort" if self.reasoning_effort else "chat_template_kwargs"
                raise RequestInvalid(f"{named}: this model cannot think aloud: ask for none, or leave it out", named)
            return model.chat_answers(messages, tools or None, **options)

        return ask

    @property
    def format(self) -> Any:
        match self.response_format:
            case ObjectFormat(schema=schema):
                return "json" if schema is None else schema
            case SchemaFormat(json_schema=given):
                return given.schema
        return None

    @property
    def think(self) -> bool | None:
        """None leaves it to the model. There are no degrees of it: whatever effort is asked for, it thinks."""
        switch = self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs else None
        effort = None if self.reasoning_effort is None else self.reasoning_effort != "none"
        if None not in (switch, effort) and switch != effort:
            raise RequestInvalid(
                "reasoning_effort and enable_thinking contradict each other: give one", "reasoning_effort"
            )
        return switch if effort is None else effort


async def complete(call: Call, asked: ChatCompletion) -> Reply | Stream:
    ask, pieces_of = asked.ask(call.house.limits), partial(_pieces, asked)
    if asked.stream:
        stream = chunks(call, asked, "chatcmpl", ask, "chat.completion.chunk", pieces_of)
        return Stream(EVENT_STREAM, stream, DIALECT.last_words)
    said = [Said() for _ in range(asked.n)]
    async with answering(call, asked, "chatcmpl", ask) as (running, head, facts):
        async for piece in pieces_of(running, facts):
            said[piece.index].add(piece)
    choices = [one.choice(index, asked.logprobs) for index, one in enumerate(said)]
    return Reply.json(head.reply("chat.completion", choices, usage=facts.usage(), **facts.beside()))


@dataclass(frozen=True, slots=True)
class Piece:
    """What a chunk says of one answer, and the log-probabilities of the tokens that it is made of."""

    index: int
    delta: Mapping[str, Any]
    tokens: list[Any]
    reason: str | None = None

    def choice(self) -> dict[str, Any]:
        told = _logprobs(self.tokens) if self.tokens else None
        return {"index": self.index, "delta": self.delta, "logprobs": told, "finish_reason": self.reason}


async def _pieces(asked: ChatCompletion, running: Running, facts: Facts) -> AsyncGenerator[Piece, None]:
    """All answers as they grow. A token goes with the piece of text that it completes."""
    growing, bytes_of = [Growing() for _ in range(asked.n)], _bytes_of(running.model)
    async for choice in running:
        index, event, one = choice.index, choice.event, growing[choice.index]
        if isinstance(event, Token):
            facts.route(index, event)
            if asked.logprobs:
                one.waiting.append(_logprob(event, bytes_of))
            continue
        for delta in one.opening(event):
            yield Piece(index, delta, [])
        if isinstance(event, Done):
            facts.done[index] = event
            facts.reasoning_tokens += _thought(running, index) if one.thought else 0
            tokens = [] if stopped(running, index) else one.taken()  # those that wait are the stop sequence's
            yield Piece(index, {}, tokens, FINISH_REASONS[event.reason])
        for delta in one.deltas(event):
            yield Piece(index, delta, one.taken())


@dataclass(slots=True)
class Growing:
    """One answer of a stream: what was said of it, and what waits to be. `calls` has what they are called outside."""

    opened: bool = False
    thought: bool = False
    waiting: list[Any] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    def opening(self, event: Event) -> list[Mapping[str, Any]]:
        """Whose turn it is, once. Content that does not come at once may never come: then it is null, not empty."""
        if self.opened:
            return []
        self.opened = True
        content = "" if isinstance(event, Text | Done) else None
        return [{"role": "assistant", "content": content, "refusal": None}]

    def deltas(self, event: Event) -> list[Mapping[str, Any]]:
        """What an event adds. A call that was told as it grew is not told again."""
        match event:
            case Text(text):
                return [{"content": text}]
            case Thinking(text):
                self.thought = True
                return [{"reasoning_content": text}]
            case ToolCallDelta(id, name, arguments):
                begun = [] if id in self.calls else [self._begin(id, name)]
                return [*begun, *([_arguments(self.calls[id], arguments)] if arguments else [])]
            case ToolCall(id, name, arguments) if id not in self.calls:
                return [self._begin(id, name), _arguments(self.calls[id], json.dumps(arguments, ensure_ascii=False))]
        return []

    def taken(self) -> list[Any]:
        taken, self.waiting = self.waiting, []
        return taken

    def _begin(self, id_: str, name: str) -> Mapping[str, Any]:
        index = self.calls[id_] = len(self.calls)
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
        return {"tool_calls": [call]}


def _arguments(index: int, json_: str) -> Mapping[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": json_}}]}


@dataclass(slots=True)
class Said:
    """One answer, put together again."""

    content: str | None = None
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[Any] = field(default_factory=list)
    reason: str | None = None

    def add(self, piece: Piece) -> None:
        if (content := piece.delta.get("content")) is not None:
            self.content = (self.content or "") + content
        self.reasoning += piece.delta.get("reasoning_content", "")
        for call in piece.delta.get("tool_calls", ()):
            if call["index"] == len(self.calls):
                self.calls.append({name: part for name, part in call.items() if name != "index"})
            else:
                self.calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        self.tokens += piece.tokens
        self.reason = piece.reason

    def choice(self, index: int, logprobs: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = self.calls
        told = _logprobs(self.tokens) if logprobs else None
        return {"index": index, "message": message, "logprobs": told, "finish_reason": self.reason}


def _logprobs(tokens: list[Any]) -> dict[str, Any]:
    return {"content": tokens, "refusal": None}


BytesOf = Callable[[int], bytes]


def _bytes_of(model: Model) -> BytesOf:
    tokenizer = model.checkpoint.tokenizer
    return lambda id_: tokenizer.token_bytes(id_) if id_ < tokenizer.vocab_size else b""


def _logprob(token: Token, bytes_of: BytesOf) -> dict[str, Any]:
    """`bytes` are those of the token, which may be a part of a character."""
    top = [{"token": text, "logprob": logprob, "bytes": list(bytes_of(id_))} for id_, text, logprob in token.top]
    own = {"token": token.text, "logprob": token.logprob, "bytes": list(bytes_of(token.id))}
    return {**own, "top_logprobs": top}


def _thought(running: Running, index: int) -> int:
    """The tokens of an answer up to the end of its thought."""
    sequence = running.answers.sequences[index]
    ids = sequence.ids[sequence.prompt_tokens : sequence.length].tolist()
    end = running.model.checkpoint.tokenizer.id_of(THINK_END)
    return ids.index(end) + 1 if end in ids else len(ids)
