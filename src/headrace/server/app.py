"""The server's application: the routes of all dialects behind one guard."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from headrace.errors import HeadraceError, RequestInvalid
from headrace.server import ollama, openai, openapi, tokens
from headrace.server.endpoint import Dialect, House
from headrace.server.guard import Doors, Guard
from headrace.server.log import Logged


def create_app(house: House, doors: Doors) -> ASGIApp:
    """An ASGI application that answers for all models of the `house`, to those that the `doors` let in."""
    routes = [*ollama.routes(house), *openai.routes(house), *tokens.routes(house)]
    routes.append(openapi.route(house, routes))
    return behind(doors, house, routes)


def behind(doors: Doors, house: House, routes: Sequence[Route]) -> ASGIApp:
    """The same of other routes."""

    def lost(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        path = request.url.path
        what = f"there is nothing at {path}" if status == 404 else f"{request.method} is not a method of {path}"
        reply = dialect_of(request.scope).refuse(RequestInvalid(what))
        allowed = {"allow": ", ".join(_methods(routes, request.scope))} if status == 405 else {}
        return Response(reply.body, status, {**reply.headers, **allowed}, reply.media_type)

    app = Starlette(routes=routes, exception_handlers={404: lost, 405: lost})
    app.router.redirect_slashes = False  # to wherever the request's own Host header says
    return Logged(Guard(app, doors, _refusal), house.log_prompts)


def _methods(routes: Sequence[Route], scope: Scope) -> Sequence[str]:
    """Of all routes of this path."""
    here = (route for route in routes if route.matches(scope)[0] is not Match.NONE)
    return sorted({method for route in here for method in route.methods or ()})


def dialect_of(scope: Scope) -> Dialect:
    """That in which somebody who asks for this path expects to hear what went wrong."""
    path = scope["path"]
    return ollama.DIALECT if path == "/" or path.startswith("/api/") else openai.DIALECT


def _refusal(scope: Scope, error: HeadraceError) -> ASGIApp:
    reply = dialect_of(scope).refuse(error)
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)
