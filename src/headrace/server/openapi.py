"""`/openapi.json`: what is served, read off the routes themselves and the types that their requests are checked by."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.routing import Route

import headrace
from headrace.errors import RequestInvalid
from headrace.server.endpoint import BODIED, JSON, Call, Endpoint, House, Inlet, Reply
from headrace.server.openai.errors import Dialect
from headrace.server.wire import Fields

BYTES = "application/octet-stream"
REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def route(house: House, routes: Sequence[Route]) -> Route:
    """A route that describes the others, and itself."""

    async def answer(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
        """This description."""
        return Reply.json(document)

    own = Route("/openapi.json", Endpoint(house, Dialect(), answer, Fields), methods=["GET"])
    document = describe([*routes, own])
    return own


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """An OpenAPI document. What is no `Endpoint` of ours is described by its path alone."""
    kinds = list({one.kind: None for one in map(_bodied, routes) if one})
    found, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    bodies = dict(zip(kinds, found, strict=True))
    for kind, ref in bodies.items():
        name = ref["$ref"].rsplit("/", 1)[1]
        schemas[name] = _with_ignored(kind, schemas[name])
    paths: dict[str, Any] = {}
    for one in routes:
        operations = {method.lower(): _operation(one, method, bodies) for method in sorted(one.methods or ())}
        paths.setdefault(_PARAMETER.sub(r"{\1}", one.path), {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headrace", "version": headrace.__version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _with_ignored(kind: type[Fields], schema: dict[str, Any]) -> dict[str, Any]:
    """What else there may be in a body, without effect; anything beyond is refused."""
    needed = schema.get("required", ())
    given = {name: one if name in needed else _or_null(one) for name, one in schema.get("properties", {}).items()}
    ignored = {name: {"description": "Ignored."} for name in sorted(kind.ignored)}
    return {**schema, "properties": {**given, **ignored}, "additionalProperties": False}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A field that is null is as if it were not there."""
    rest: dict[str, Any] = {"default": schema["default"]} if "default" in schema else {}
    own = {name: part for name, part in schema.items() if name != "default"}
    options = own.get("anyOf", [own])
    if not own or {"type": "null"} in options:
        return schema
    return {"anyOf": [*options, {"type": "null"}], **rest}


def _operation(one: Route, method: str, bodies: Mapping[type[Fields], dict[str, Any]]) -> dict[str, Any]:
    name = _PARAMETER.sub(r"\1", one.path).strip("/") or "root"
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}_{name}"),
        "responses": {"200": {"description": "The answer."}},
    }
    endpoint = one.endpoint
    if isinstance(endpoint, Endpoint | Inlet):
        if words := inspect.getdoc(endpoint.handle):
            operation["summary"] = words.splitlines()[0]
        example = msgspec.json.decode(endpoint.dialect.refuse(RequestInvalid("what is wrong, and what to do")).body)
        operation["responses"]["default"] = {"description": "An error.", "content": {JSON: {"example": example}}}
    if parameters := _PARAMETER.findall(one.path):
        operation["parameters"] = [
            {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}
            for parameter in parameters
        ]
    if method in BODIED and (bodied := _bodied(one)):
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": bodies[bodied.kind]}}}
    if isinstance(endpoint, Inlet):
        operation["requestBody"] = {"required": True, "content": {BYTES: {}}}
    return operation


def _bodied(one: Route) -> Endpoint[Any] | None:
    """The endpoint, where its requests have a body of fields that are known."""
    endpoint = one.endpoint
    if not isinstance(endpoint, Endpoint) or endpoint.kind is Fields:
        return None
    return endpoint if BODIED.intersection(one.methods or ()) else None
