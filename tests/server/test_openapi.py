"""`/openapi.json` describes what is served: all of it, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from headrace.server.app import create_app
from headrace.server.endpoint import Endpoint
from headrace.server.guard import Doors
from tests.server.live import Live
from tests.server.openai_clients import CALCULATE, HI
from tests.server.test_openai_chat import TURNS


@pytest.fixture(scope="module")
def document(live: Live) -> Any:
    return httpx.get(f"{live.url}/openapi.json").json()


@pytest.fixture(scope="module")
def routes(live: Live) -> list[Route]:
    app: Any = create_app(live.house, Doors())
    while not isinstance(app, Starlette):
        app = app.app
    return [route for route in app.routes if isinstance(route, Route)]


def path_of(route: Route) -> str:
    return re.sub(r":\w+}", "}", route.path)


def test_all_routes_and_their_methods(document: Any, routes: list[Route]) -> None:
    served: dict[str, set[str]] = {}
    for route in routes:
        served.setdefault(path_of(route), set()).update(method.lower() for method in route.methods or ())
    assert {path: set(operations) for path, operations in document["paths"].items()} == served
    assert "/v1/chat/completions" in served
    assert "/openapi.json" in served


def test_all_fields_of_all_bodies(document: Any, routes: list[Route]) -> None:
    bodied = 0
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][path_of(route)][method.lower()]
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                continue
            bodied += 1
            assert isinstance(route.endpoint, Endpoint)
            kind = route.endpoint.kind
            schema = document["components"]["schemas"][content["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]]
            assert schema["properties"].keys() == {*kind.__struct_encode_fields__, *kind.ignored}
            assert schema["additionalProperties"] is False
    assert bodied > 5


def test_names_of_operations_are_unique_and_what_is_referred_to_is_there(document: Any) -> None:
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert named == document["components"]["schemas"].keys() & named
    (parameter,) = document["paths"]["/v1/models/{id}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("id", "path", True)
    assert document["openapi"] == "3.1.0"


BODIES: dict[str, tuple[bool, str, dict[str, Any]]] = {
    "plain": (True, "ChatCompletion", {"messages": HI}),
    "turns": (True, "ChatCompletion", {"messages": TURNS, "tools": [CALCULATE], "tool_choice": "auto"}),
    "nulls": (True, "ChatCompletion", {"messages": HI, "n": None, "tools": None, "stop": None}),
    "ignored": (True, "ChatCompletion", {"messages": HI, "user": "me", "store": False}),
    "a schema": (
        True,
        "ChatCompletion",
        {"messages": HI, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
    ),
    "unknown": (False, "ChatCompletion", {"messages": HI, "foo": 1}),
    "too hot": (False, "ChatCompletion", {"messages": HI, "temperature": 3}),
    "no messages": (False, "ChatCompletion", {}),
    "a role": (False, "ChatCompletion", {"messages": [{"role": "x", "content": "x"}]}),
    "a prompt": (True, "Completion", {"prompt": [[1, 2]], "logprobs": 1, "max_tokens": 0}),
    "no prompt": (False, "Completion", {"prompt": {}}),
}


@pytest.mark.parametrize(("good", "name", "body"), BODIES.values(), ids=BODIES)
def test_what_it_allows_is_what_is_taken(
    good: bool, name: str, body: dict[str, Any], document: Any, live: Live
) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    whole = {"model": "nano", **body}
    assert jsonschema.Draft202012Validator(schema).is_valid(whole) == good
    path = {"ChatCompletion": "chat/completions", "Completion": "completions"}[name]
    answer = httpx.post(f"{live.url}/v1/{path}", json={"max_tokens": 1} | whole)
    assert answer.status_code == (200 if good else 400), answer.text
