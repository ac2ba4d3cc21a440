"""What a model says, as Ollama's API says it: chat and generate."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.answers import Answers
from headrace.engine.options import read as read_options
from headrace.errors import RequestInvalid
from headrace.events import Done, Event, Text, Thinking, Token, ToolCall
from headrace.jobs import MOST_LOGPROBS
from headrace.model import Model
from headrace.server.endpoint import Call, Reply, Stream
from headrace.server.log import note
from headrace.server.ollama.dialect import NDJSON, last_words, line, ns, rfc3339, shelved
from headrace.server.ollama.requests import (
    Asked,
    Chat,
    Generate,
    check_images,
    check_language,
    keep_alive_s,
    policy,
    thinking,
)
from headrace.server.serving import Running
from headrace.server.wire import check_form, check_template

# Ollama knows two ends. Who reads "length" knows that there is more to say.
REASONS: Final[Mapping[str, str]] = {"length": "length", "repetition": "length"}
_LETTERS: Final = string.ascii_lowercase + string.digits

Ask = Callable[[Model], Answers]


@dataclass(frozen=True, slots=True)
class Piece:
    """Of an answer. The last one has what is said at the end."""

    text: str = ""
    thinking: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    logprobs: Sequence[Mapping[str, Any]] = ()
    end: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, pieces: Sequence[Piece]) -> Piece:
        return cls(
            "".join(piece.text for piece in pieces),
            "".join(piece.thinking for piece in pieces),
            [call for piece in pieces for call in piece.calls],
            [entry for piece in pieces for entry in piece.logprobs],
            pieces[-1].end,
        )


Shape = Callable[[Piece], Mapping[str, Any]]


def _message(piece: Piece) -> Mapping[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = piece.calls
    return {"message": message}


def _response(piece: Piece) -> Mapping[str, Any]:
    response: dict[str, Any] = {"response": piece.text}
    if piece.thinking:
        response["thinking"] = piece.thinking
    if piece.calls:
        response["tool_calls"] = piece.calls
    return response


async def chat(call: Call, asked: Chat) -> Reply | Stream:
    """Answers a conversation; without messages it loads the model, or unloads it."""
    began = time.perf_counter()
    name = shelved(call, asked.model).name
    options = await _options(call, asked, name)
    if not asked.messages:
        return await _idle(call, asked, name, _message)
    for place, message in enumerate(asked.messages):
        check_images(f"messages[{place}].images", message.images)
    check_form("tools", asked.tools, call.house.limits)
    if asked.tools and not (await asyncio.to_thread(call.house.shelf.facts, name)).can_call:
        raise RequestInvalid(f'"{asked.model}" does not support tools')
    messages, tools = [message.plain() for message in asked.messages], [_mended(tool) for tool in asked.tools] or None
    last = asked.messages[-1]
    goes_on = messages[-1]["role"] == "assistant" and bool(last.content) and not last.tool_calls

    def ask(model: Model) -> Answers:
        return model.chat_answers(messages, tools, goes_on=goes_on, **options)

    return await _reply(call, asked, name, ask, _message, _Told(began, options["num_ctx"]))


async def generate(call: Call, asked: Generate) -> Reply | Stream:
    """Answers a prompt, or goes on with it as it stands; without one it loads the model, or unloads it."""
    began = time.perf_counter()
    name = shelved(call, asked.model).name
    check_images("images", asked.images)
    if asked.raw and (asked.template or asked.system or asked.context):
        raise RequestInvalid("raw mode does not support template, system, or context")
    if asked.suffix:
        raise RequestInvalid(f'"{asked.model}" does not support insert')
    check_template("template", asked.template, call.house.limits)
    check_language(asked.template)
    options = await _options(call, asked, name)
    if not asked.prompt:
        return await _idle(call, asked, name, _response)
    return await _reply(
        call, asked, name, _asks(asked, options), _response, _Told(began, options["num_ctx"], keeps_ids=not asked.raw)
    )


def _asks(asked: Generate, options: Mapping[str, Any]) -> Ask:
    """A text as it stands, or as the user's message, which may follow an earlier conversation."""
    if asked.raw:
        bare = {name: value for name, value in options.items() if name != "think"}
        return lambda model: model.text_answers([asked.prompt], **bare)
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    messages = [*system, {"role": "user", "content": asked.prompt}]
    more = {"template": asked.template or None, "after": asked.context, **options}
    return lambda model: model.chat_answers(messages, **more)


async def _options(call: Call, asked: Asked, name: str) -> dict[str, Any]:
    """What is asked of the model beside the words, checked as far as it can be before it is loaded."""
    if not 0 <= asked.top_logprobs <= MOST_LOGPROBS:
        raise RequestInvalid(f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
    check_form("format", asked.format, call.house.limits)
    options, think = read_options(asked.options), thinking(asked.think)
    keep_alive_s(asked.keep_alive)
    if think and not (await asyncio.to_thread(call.house.shelf.facts, name)).can_think:
        raise RequestInvalid(f'"{asked.model}" does not support thinking')
    return {
        **options.parameters,
        "num_ctx": options.num_ctx,
        "format": asked.format or None,
        "think": think,
        "context": policy(asked),
        "logprobs": asked.top_logprobs if asked.logprobs else None,
        "experts": asked.headrace.experts,
    }


def _mended(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The types of a union are a list in JSON schemas; Ollama's Python client writes "integer, string"."""
    function = tool.get("function")
    parameters = function.get("parameters") if isinstance(function, dict) else None
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if not isinstance(function, dict) or not isinstance(parameters, dict) or not isinstance(properties, dict):
        return tool
    mended = {name: _with_types(schema) for name, schema in properties.items()}
    return {**tool, "function": {**function, "parameters": {**parameters, "properties": mended}}}


def _with_types(schema: Any) -> Any:
    joined = schema.get("type") if isinstance(schema, dict) else None
    return {**schema, "type": joined.split(", ")} if isinstance(joined, str) and ", " in joined else schema


async def _idle(call: Call, asked: Asked, name: str, shape: Shape) -> Reply:
    """Nothing is said: the model is loaded, or unloaded where it is to be kept for no time."""
    kept_s = keep_alive_s(asked.keep_alive)
    if kept_s == 0:
        await asyncio.to_thread(call.house.serving.models.unload, name)
        reason = "unload"
    else:
        await call.house.serving.call(name, lambda _: None, kept_s)
        reason = "load"
    note(call.scope, reason=reason)
    return Reply.json(_chunk(asked.model, shape, Piece(end={"done_reason": reason})))


async def _reply(call: Call, asked: Asked, name: str, ask: Ask, shape: Shape, told: _Told) -> Reply | Stream:
    if asked.debug_render_only:
        return await _rendered(call, asked, name, ask, shape)
    pieces = _pieces(call, asked, name, ask, told)
    if asked.stream:
        return Stream(NDJSON, _lines(asked.model, shape, pieces), last_words)
    async with aclosing(pieces):
        whole = Piece.joined([piece async for piece in pieces])
    return Reply.json(_chunk(asked.model, shape, whole))


async def _rendered(call: Call, asked: Asked, name: str, ask: Ask, shape: Shape) -> Reply:
    """The prompt in place of its answer."""
    text, _ = await call.house.serving.call(
        name, lambda model: model.detokenize(ask(model).prompt_ids[0]), keep_alive_s(asked.keep_alive)
    )
    info = {"rendered_template": text, "image_count": 0}
    return Reply.json({**_chunk(asked.model, shape, Piece()), "_debug_info": info})


async def _lines(model: str, shape: Shape, pieces: AsyncGenerator[Piece]) -> AsyncGenerator[bytes]:
    async with aclosing(pieces):
        async for piece in pieces:
            yield line(_chunk(model, shape, piece))


async def _pieces(call: Call, asked: Asked, name: str, ask: Ask, told: _Told) -> AsyncGenerator[Piece]:
    note(call.scope, stream=asked.stream)
    async with call.house.serving.answering(name, ask, keep_alive_s(asked.keep_alive)) as running:
        async for choice in running:
            if piece := told.piece(choice.event, running, asked):
                yield piece
        note(call.scope, **told.summary)


def _chunk(model: str, shape: Shape, piece: Piece) -> dict[str, Any]:
    logprobs = {"logprobs": piece.logprobs} if piece.logprobs else {}
    stamp = {"model": model, "created_at": rfc3339()}
    return {**stamp, **shape(piece), "done": bool(piece.end), **piece.end, **logprobs}


@dataclass(slots=True)
class _Told:
    """An answer from its first event to its last: what was asked about its tokens waits for the next piece."""

    began: float
    num_ctx: int | None  # that was asked for
    keeps_ids: bool = False  # at the end come the ids of the conversation, to be followed
    calls: int = 0
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    experts: list[Any] = field(default_factory=list)
    summary: Mapping[str, Any] = field(default_factory=dict)  # for the log

    def piece(self, event: Event, running: Running, asked: Asked) -> Piece | None:
        match event:
            case Text(text):
                return Piece(text, logprobs=self._waiting())
            case Thinking(text):
                return Piece(thinking=text, logprobs=self._waiting())
            case ToolCall():
                return Piece(calls=[self._call(event)], logprobs=self._waiting())
            case Token():
                if asked.logprobs:
                    self.logprobs.append(_logprob(event, running.model))
                if asked.headrace.experts:
                    self.experts.append(event.experts)
            case Done():
                (sequence,) = running.answers.sequences
                if sequence.text is not None and sequence.text.stopped:
                    self.logprobs = []  # those of the stop sequence, of which nothing is said
                return Piece(logprobs=self._waiting(), end=self._end(event, running, asked))
        return None

    def _waiting(self) -> Sequence[Mapping[str, Any]]:
        waiting, self.logprobs = self.logprobs, []
        return waiting

    def _call(self, call: ToolCall) -> Mapping[str, Any]:
        """Ids are unlike those of other answers: a client may tell the calls of a conversation apart by them."""
        function = {"index": self.calls, "name": call.name, "arguments": call.arguments}
        self.calls += 1
        return {"id": f"call_{''.join(secrets.choice(_LETTERS) for _ in range(8))}", "function": function}

    def _end(self, done: Done, running: Running, asked: Asked) -> Mapping[str, Any]:
        usage, timings = done.usage, done.timings
        self.summary = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "reason": done.reason,
        }
        (sequence,) = running.answers.sequences
        context = {"context": sequence.ids[: sequence.length].tolist()} if self.keeps_ids else {}
        return {
            "done_reason": REASONS.get(done.reason, "stop"),
            **context,
            "total_duration": ns(time.perf_counter() - self.began),
            "load_duration": ns(running.load_s),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": ns(timings.prompt_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": ns(timings.decode_s),
            "headrace": self._extras(done, running, asked),
        }

    def _extras(self, done: Done, running: Running, asked: Asked) -> Mapping[str, Any]:
        window = running.model.num_ctx
        extras: dict[str, Any] = {
            "reason": done.reason,
            "num_ctx": min(self.num_ctx or window, window),
            "prompt_cached_tokens": done.usage.cached_tokens,
            "forced_tokens": done.usage.forced_tokens,
            "timings": {
                "queue_ms": _ms(done.timings.queue_s),
                "prompt_ms": _ms(done.timings.prompt_s),
                "decode_ms": _ms(done.timings.decode_s),
                "first_token_ms": _ms(done.timings.first_token_s),
            },
        }
        if done.warnings:
            extras["warnings"] = done.warnings
        if done.dropped:
            extras["dropped"] = {"messages": done.dropped.messages, "tokens": done.dropped.tokens}
        if asked.headrace.experts:
            extras["experts"] = self.experts
        return extras


def _ms(seconds_: float) -> float:
    return round(seconds_ * 1000, 3)


def _logprob(token: Token, model: Model) -> Mapping[str, Any]:
    """With the bytes of each token: its text is not all there is where it is a part of a character."""
    tokenizer = model.checkpoint.tokenizer

    def entry(id_: int, text: str, logprob: float | None) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(tokenizer.known_bytes(id_))}

    own = entry(token.id, token.text, token.logprob)
    return own if not token.top else {**own, "top_logprobs": [entry(*likely) for likely in token.top]}
