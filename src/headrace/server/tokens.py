"""Routes beside the dialects: tokens of texts, prompts of conversations, and whether the server is well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.routing import Route

from headrace.errors import RequestInvalid
from headrace.server import openai
from headrace.server.endpoint import Call, Endpoint, House, Reply
from headrace.server.wire import Fields, check_form


class OfModel(Fields):
    """Without a `model`, as evaluation harnesses ask, it is about the one that this server was begun for."""

    model: str = ""


class Tokenize(OfModel):
    """`prompt` and `add_special_tokens` are what vLLM calls them, `content` and `add_special` llama.cpp's server."""

    prompt: str | None = None
    content: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_special_tokens: bool = False
    add_special: bool = False
    return_token_strs: bool = False


class Detokenize(OfModel):
    tokens: list[int] = msgspec.field(default_factory=list)


class ApplyTemplate(OfModel, kw_only=True):
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    think: bool | None = None


def routes(house: House) -> Sequence[Route]:
    def route(path: str, handle: Any, kind: type[Fields], *methods: str) -> Route:
        return Route(path, Endpoint(house, openai.DIALECT, handle, kind), methods=list(methods))

    return [
        route("/health", health, Fields, "GET"),
        route("/tokenize", tokenize, Tokenize, "POST"),
        route("/detokenize", detokenize, Detokenize, "POST"),
        route("/tokenizer_info", tokenizer_info, OfModel, "GET"),
        route("/apply-template", apply_template, ApplyTemplate, "POST"),
    ]


def _name(call: Call, asked: str) -> str:
    return call.model(asked or call.house.shelf.first).name


async def health(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    return Reply.json({"status": "ok"})


async def tokenize(call: Call, asked: Tokenize) -> Reply:
    text = asked.prompt if asked.prompt is not None else asked.content
    if (text is None) == (asked.messages is None):
        raise RequestInvalid("give either prompt, a text, or messages, a conversation")
    check_form("tools", asked.tools, call.house.limits)

    def work(model: Any) -> tuple[list[int], list[str] | None, int]:
        if asked.messages is not None:
            ids = model.chat_answers(asked.messages, asked.tools).prompt_ids[0]
        else:
            ids = model.tokenize(text, add_bos=asked.add_special_tokens or asked.add_special)
        pieces = [model.detokenize([id_]) for id_ in ids] if asked.return_token_strs else None
        return ids, pieces, model.num_ctx

    (ids, pieces, num_ctx), _ = await call.house.serving.call(_name(call, asked.model), work)
    shown = {"tokens": ids, "count": len(ids), "max_model_len": num_ctx}
    return Reply.json(shown if pieces is None else {**shown, "token_strs": pieces})


async def detokenize(call: Call, asked: Detokenize) -> Reply:
    def work(model: Any) -> str:
        model.check_ids(asked.tokens)
        return str(model.detokenize(asked.tokens))

    text, _ = await call.house.serving.call(_name(call, asked.model), work)
    return Reply.json({"prompt": text, "content": text})


async def tokenizer_info(call: Call, asked: OfModel) -> Reply:
    """What lm-evaluation-harness asks of a remote tokenizer."""
    name = call.query("model") or asked.model

    def work(model: Any) -> dict[str, Any]:
        source = model.checkpoint
        bos, ends = source.tokenizer.bos_id, sorted(source.end_ids)
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None if bos is None else model.detokenize([bos]),
            "eos_token": model.detokenize(ends[:1]) if ends else None,
            "pad_token": None,
            "vocab_size": source.tokenizer.vocab_size,
            "model_max_length": model.num_ctx,
            "chat_template": source.template.source,
        }

    info, _ = await call.house.serving.call(_name(call, name), work)
    return Reply.json(info)


async def apply_template(call: Call, asked: ApplyTemplate) -> Reply:
    check_form("tools", asked.tools, call.house.limits)

    def work(model: Any) -> str:
        answers = model.chat_answers(asked.messages, asked.tools, think=asked.think)
        return str(model.detokenize(answers.prompt_ids[0]))

    prompt, _ = await call.house.serving.call(_name(call, asked.model), work)
    return Reply.json({"prompt": prompt})
