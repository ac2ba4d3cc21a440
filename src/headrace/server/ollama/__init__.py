"""Ollama's API: its routes. Their fields, statuses and words are those of Ollama 0.32; docs/api.md lists them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.routing import Route

from headrace.server.endpoint import Call, Dialect, Endpoint, House, Inlet, Reply, Stream
from headrace.server.ollama import answers, blobs, embeddings, keeping, listing, requests
from headrace.server.ollama.dialect import DIALECT, OF_ANSWERS, OF_VECTORS
from headrace.server.wire import Fields

__all__ = ["DIALECT", "VERSION", "routes"]

VERSION: Final = "0.32.15"  # of the Ollama whose API this is: clients compare it


def routes(house: House) -> Sequence[Route]:
    def route(
        path: str,
        handle: Callable[[Call, Any], Awaitable[Reply | Stream]],
        kind: type[Fields],
        *methods: str,
        dialect: Dialect = DIALECT,
    ) -> Route:
        made = Route(path, Endpoint(house, dialect, handle, kind), methods=list(methods))
        made.methods = set(methods)  # no HEAD for every GET: Ollama has it where it has it
        return made

    return [
        route("/", root, Fields, "GET", "HEAD"),
        route("/api/version", version, Fields, "GET", "HEAD"),
        route("/api/tags", listing.tags, Fields, "GET", "HEAD"),
        route("/api/ps", listing.ps, Fields, "GET"),
        route("/api/show", listing.show, requests.Show, "POST"),
        route("/api/generate", answers.generate, requests.Generate, "POST", dialect=OF_ANSWERS),
        route("/api/chat", answers.chat, requests.Chat, "POST", dialect=OF_ANSWERS),
        route("/api/embed", embeddings.embed, requests.Embed, "POST", dialect=OF_VECTORS),
        route("/api/embeddings", embeddings.embeddings, requests.Embeddings, "POST"),
        route("/api/pull", keeping.pull, requests.Pull, "POST"),
        route("/api/push", keeping.push, requests.Push, "POST"),
        route("/api/create", keeping.create, requests.Create, "POST"),
        route("/api/copy", keeping.copy, requests.Copy, "POST"),
        route("/api/delete", keeping.delete, requests.Delete, "DELETE"),
        route("/api/blobs/{digest}", blobs.has, Fields, "HEAD"),
        Route("/api/blobs/{digest}", Inlet(house, DIALECT, blobs.receive), methods=["POST"]),
    ]


async def root(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    """Whether there is a server."""
    return Reply(b"Ollama is running", media_type="text/plain; charset=utf-8")


async def version(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    """The version of Ollama whose API this is."""
    return Reply.json({"version": VERSION})
