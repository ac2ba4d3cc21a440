"""Ollama's API: its routes. Their fields, statuses and words are those of Ollama 0.32; docs/api.md lists them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from starlette.routing import Route

from headrace.server import ollama_answers, ollama_embeddings, ollama_library
from headrace.server import ollama_requests as requests
from headrace.server.endpoint import Call, Endpoint, House, Reply, Stream
from headrace.server.ollama_dialect import DIALECT
from headrace.server.wire import Fields

__all__ = ["DIALECT", "VERSION", "routes"]

VERSION: Final = "0.32.15"  # of the Ollama whose API this is: clients compare it


def routes(house: House) -> Sequence[Route]:
    def route(
        path: str,
        handle: Callable[[Call, Any], Awaitable[Reply | Stream]],
        kind: type[Fields],
        *methods: str,
        bare: bool = False,
    ) -> Route:
        made = Route(path, Endpoint(house, DIALECT, handle, kind, bare), methods=list(methods))
        made.methods = set(methods)  # no HEAD for every GET: Ollama has it where it has it
        return made

    return [
        route("/", root, Fields, "GET", "HEAD"),
        route("/api/version", version, Fields, "GET", "HEAD"),
        route("/api/tags", ollama_library.tags, Fields, "GET", "HEAD"),
        route("/api/ps", ollama_library.ps, Fields, "GET"),
        route("/api/show", ollama_library.show, requests.Show, "POST"),
        route("/api/generate", ollama_answers.generate, requests.Generate, "POST"),
        route("/api/chat", ollama_answers.chat, requests.Chat, "POST"),
        route("/api/embed", ollama_embeddings.embed, requests.Embed, "POST"),
        route("/api/embeddings", ollama_embeddings.embeddings, requests.Embeddings, "POST"),
        route("/api/pull", ollama_library.pull, requests.Pull, "POST"),
        route("/api/push", ollama_library.push, requests.Push, "POST"),
        route("/api/create", ollama_library.create, requests.Create, "POST"),
        route("/api/copy", ollama_library.copy, requests.Copy, "POST"),
        route("/api/delete", ollama_library.delete, requests.Delete, "DELETE"),
        route("/api/blobs/{digest}", ollama_library.blob, Fields, "HEAD", "POST", bare=True),
    ]


async def root(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    """Whether there is a server."""
    return Reply(b"Ollama is running", media_type="text/plain; charset=utf-8")


async def version(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    """The version of Ollama whose API this is."""
    return Reply.json({"version": VERSION})
