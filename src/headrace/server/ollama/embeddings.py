"""Vectors of texts, as Ollama's API gives them: embed, and embeddings, which came before it."""

from __future__ import annotations

import time
from typing import Final

from headrace.engine.options import read as read_options
from headrace.errors import ContextExceeded, RequestInvalid
from headrace.model import Model
from headrace.server.endpoint import Call, Reply
from headrace.server.log import note
from headrace.server.ollama.dialect import ns, shelved
from headrace.server.ollama.requests import Embed, Embeddings, keep_alive_s
from headrace.server.serving import Gone
from headrace.server.vectors import cut, wanted

MOST_TEXTS: Final = 8192  # in one request: clients of this API send all that they have


async def embed(call: Call, asked: Embed) -> Reply:
    """A vector of length 1 for each text."""
    began = time.perf_counter()
    name = shelved(call, asked.model).name
    num_ctx, kept_s = read_options(asked.options).num_ctx, keep_alive_s(asked.keep_alive)
    texts = [text for text in [asked.input] if text] if isinstance(asked.input, str) else asked.input
    if len(texts) > MOST_TEXTS:
        raise RequestInvalid(f"input has {len(texts)} texts: {MOST_TEXTS} is the most in one request")
    if asked.dimensions < 0:
        raise RequestInvalid(f"dimensions is {asked.dimensions} but should be a whole number from 1")

    def work(model: Model, gone: Gone) -> tuple[list[list[float]], int]:
        prompts = [_within(model, text, num_ctx, asked.truncate) for text in wanted(texts, gone)]
        if not prompts:  # the model is loaded now: that was all
            return [], 0
        return cut(model.embed(prompts, gone=gone), asked.dimensions or None).tolist(), sum(map(len, prompts))

    # All in one call, whose time is limited: the model takes a few at a time, and others in between.
    (vectors, tokens), load_s = await call.house.serving.watched_call(name, work, kept_s)
    note(call.scope, prompt_tokens=tokens)
    return Reply.json(
        {
            "model": asked.model,
            "embeddings": vectors,
            "total_duration": ns(time.perf_counter() - began),
            "load_duration": ns(load_s),
            "prompt_eval_count": tokens,
        }
    )


async def embeddings(call: Call, asked: Embeddings) -> Reply:
    """One vector of one text, at its own length."""
    name = shelved(call, asked.model).name
    num_ctx, kept_s = read_options(asked.options).num_ctx, keep_alive_s(asked.keep_alive)

    def work(model: Model, gone: Gone) -> list[float]:
        if not asked.prompt:
            return []
        ids = _within(model, asked.prompt, num_ctx, truncate=False)
        (vector,) = model.embed([ids], normalise=False, gone=gone).tolist()
        return list(vector)

    vector, _ = await call.house.serving.watched_call(name, work, kept_s)
    return Reply.json({"embedding": vector})


def _within(model: Model, text: str, num_ctx: int | None, truncate: bool) -> list[int]:
    """The ids of a text, or of its beginning where it is too long and may be cut. Raises ContextExceeded."""
    ids, most = model.prompt(text), min(num_ctx or model.num_ctx, model.num_ctx)
    if len(ids) > most and not truncate:
        raise ContextExceeded(len(ids), most, model.num_ctx)
    return ids[:most]
