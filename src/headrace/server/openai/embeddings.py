"""`/v1/embeddings` of OpenAI's API."""

from __future__ import annotations

import base64
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from headrace.errors import RequestInvalid
from headrace.model import Model
from headrace.server.durations import seconds
from headrace.server.endpoint import Call, Reply
from headrace.server.log import note
from headrace.server.openai.completions import prompts_of
from headrace.server.openai.errors import Dialect
from headrace.server.serving import Gone
from headrace.server.vectors import cut, wanted
from headrace.server.wire import Fields

DIALECT = Dialect(prompt="input")
MOST_INPUTS = 2048


class Embedding(Fields, kw_only=True):
    ignored: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    pooling: Literal["mean", "last"] = "mean"
    keep_alive: str | float | None = None


async def embed(call: Call, asked: Embedding) -> Reply:
    name = call.model(asked.model).name
    given = prompts_of(asked.input, "input")
    if len(given) > MOST_INPUTS:
        raise RequestInvalid(f"{len(given)} inputs: {MOST_INPUTS} is the most in one request", "input")
    keep_alive_s = None if asked.keep_alive is None else seconds(asked.keep_alive, "keep_alive")

    def work(model: Model, gone: Gone) -> tuple[NDArray[np.float32], int]:
        prompts = [model.prompt(one) for one in wanted(given, gone)]
        whole = model.embed(prompts, asked.pooling, gone=gone)
        return cut(whole, asked.dimensions), sum(map(len, prompts))

    (vectors, tokens), _ = await call.house.serving.watched_call(name, work, keep_alive_s)
    note(call.scope, prompt_tokens=tokens)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, asked.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Reply.json({"object": "list", "data": data, "model": name, "usage": usage})


def _encoded(vector: NDArray[np.float32], encoding: str) -> Any:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
