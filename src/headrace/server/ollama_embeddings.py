"""Vectors of texts, as Ollama's API gives them: embed, and embeddings, which came before it."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ContextExceeded, RequestInvalid
from headrace.model import Model
from headrace.server import ollama_options
from headrace.server.endpoint import Call, Reply
from headrace.server.ollama_dialect import ns, shelved
from headrace.server.ollama_requests import Embed, Embeddings, seconds
from headrace.server.serving import Gone

Vectors = NDArray[np.float32]


async def embed(call: Call, asked: Embed) -> Reply:
    began = time.perf_counter()
    name = shelved(call, asked.model).name
    num_ctx, keep_alive_s = ollama_options.read(asked.options).num_ctx, seconds(asked.keep_alive)
    texts = [text for text in [asked.input] if text] if isinstance(asked.input, str) else asked.input
    if asked.dimensions < 0:
        raise RequestInvalid(f"dimensions is {asked.dimensions} but should be a whole number from 1")

    def work(model: Model, gone: Gone) -> tuple[list[list[float]], int]:
        prompts = [_within(model, text, num_ctx, asked.truncate) for text in texts]
        if not prompts:
            return [], 0
        return _shortened(model.embed(prompts, gone=gone), asked.dimensions).tolist(), sum(map(len, prompts))

    (vectors, tokens), load_s = await call.house.serving.watched_call(name, work, keep_alive_s)
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
    """One vector, at its own length."""
    name = shelved(call, asked.model).name
    num_ctx, keep_alive_s = ollama_options.read(asked.options).num_ctx, seconds(asked.keep_alive)

    def work(model: Model, gone: Gone) -> list[float]:
        if not asked.prompt:
            return []
        prompt = _within(model, asked.prompt, num_ctx, truncate=False)
        (vector,) = model.embed([prompt], normalise=False, gone=gone).tolist()
        return list(vector)

    vector, _ = await call.house.serving.watched_call(name, work, keep_alive_s)
    return Reply.json({"embedding": vector})


def _within(model: Model, text: str, num_ctx: int | None, truncate: bool) -> list[int]:
    """The ids of a text, or of its beginning where it is too long and may be cut. Raises ContextExceeded."""
    ids, most = model.prompt(text), min(num_ctx or model.num_ctx, model.num_ctx)
    if len(ids) > most and not truncate:
        raise ContextExceeded(len(ids), most)
    return ids[:most]


def _shortened(vectors: Vectors, dimensions: int) -> Vectors:
    """Of length 1 again. Raises RequestInvalid."""
    width = vectors.shape[1]
    if dimensions > width:
        raise RequestInvalid(f"dimensions is {dimensions} but the model's vectors have {width}")
    if not dimensions:
        return vectors
    kept = vectors[:, :dimensions]
    lengths: Vectors = np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
    return kept / lengths
