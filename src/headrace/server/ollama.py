"""Ollama's API. Its routes, fields, statuses and words are those of Ollama 0.32; docs/api.md lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from headrace.errors import OUTCOMES, HeadraceError
from headrace.server.endpoint import Call, Endpoint, House, Reply
from headrace.server.wire import Fields

VERSION = "0.32.15"  # of the Ollama whose API this is: clients compare it


@dataclass(frozen=True, slots=True)
class _Dialect:
    def refuse(self, error: HeadraceError) -> Reply:
        return Reply.json({"error": str(error)}, OUTCOMES[type(error)].http_status)


DIALECT = _Dialect()


def routes(house: House) -> Sequence[Route]:
    return [
        Route("/", Endpoint(house, DIALECT, root, Fields), methods=["GET"]),
        Route("/api/version", Endpoint(house, DIALECT, version, Fields), methods=["GET"]),
    ]


async def root(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    return Reply(b"Ollama is running", media_type="text/plain; charset=utf-8")


async def version(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    return Reply.json({"version": VERSION})
