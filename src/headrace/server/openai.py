"""OpenAI's API: chat completions, completions, embeddings, models. docs/api.md lists its fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from headrace.errors import OUTCOMES, HeadraceError
from headrace.server.endpoint import Call, Endpoint, House, Reply
from headrace.server.wire import Fields


@dataclass(frozen=True, slots=True)
class _Dialect:
    def refuse(self, error: HeadraceError) -> Reply:
        status = OUTCOMES[type(error)].http_status
        kind = "invalid_request_error" if status < 500 else "api_error"
        return Reply.json({"error": {"message": str(error), "type": kind, "param": None, "code": None}}, status)


DIALECT = _Dialect()


def routes(house: House) -> Sequence[Route]:
    return [Route("/v1/models", Endpoint(house, DIALECT, models, Fields), methods=["GET"])]


async def models(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    shelf = call.house.shelf
    listed = [
        {"id": name, "object": "model", "created": int(shelf.find(name).modified.timestamp()), "owned_by": "library"}
        for name in shelf.names()
    ]
    return Reply.json({"object": "list", "data": listed})
