"""OpenAI's API: chat completions, completions, embeddings, models. docs/api.md lists its fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.routing import Route

from headrace.server.endpoint import Call, Endpoint, House, Reply
from headrace.server.openai import chat, completions, embeddings
from headrace.server.openai.errors import Dialect
from headrace.server.shelf import Shelved
from headrace.server.wire import Fields

DIALECT = Dialect()


def routes(house: House) -> Sequence[Route]:
    talk = Endpoint(house, chat.DIALECT, chat.complete, chat.ChatCompletion)
    text = Endpoint(house, completions.DIALECT, completions.complete, completions.Completion)
    embed = Endpoint(house, embeddings.DIALECT, embeddings.embed, embeddings.Embedding)
    return [
        Route("/v1/chat/completions", talk, methods=["POST"]),
        Route("/v1/completions", text, methods=["POST"]),
        Route("/v1/embeddings", embed, methods=["POST"]),
        Route("/v1/models", Endpoint(house, DIALECT, models, Fields), methods=["GET"]),
        Route("/v1/models/{id:path}", Endpoint(house, DIALECT, model, Fields), methods=["GET"]),
    ]


async def models(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    shelf = call.house.shelf
    return Reply.json({"object": "list", "data": [_shown(shelf.find(name)) for name in shelf.names()]})


async def model(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    return Reply.json(_shown(call.model(call.path("id"))))


def _shown(found: Shelved) -> dict[str, Any]:
    return {
        "id": found.name,
        "object": "model",
        "created": int(found.modified.timestamp()),
        "owned_by": "library",
    }
