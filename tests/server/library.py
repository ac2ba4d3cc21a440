"""A server with a library of its own, and a registry beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx

from headrace.library.home import own_store
from headrace.library.registry.client import Options
from headrace.library.store import Store
from tests.library.fault_server import HASTY, NoTime
from tests.server.live import Live, running
from tests.server.tiny import until

PARTS = replace(HASTY, part_bytes=1 << 20, chunk_bytes=1 << 20)
WAIT_S = 60


@contextmanager
def keeping(settings: Any = PARTS, **more: Any) -> Iterator[Live]:
    """Registries are asked as `settings` say, on a clock on which waits take no time."""
    with running(registries=Options(settings=settings, clock=NoTime()), **more) as live:
        yield live


def store() -> Store:
    return own_store()


def ask(live: Live, verb: str, /, **body: Any) -> httpx.Response:
    method = "DELETE" if verb == "delete" else "POST"
    return httpx.request(method, f"{live.url}/api/{verb}", json=body, timeout=WAIT_S)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def refused(live: Live, status: int, verb: str, /, **body: Any) -> str:
    """The sentence, where it has this status before anything is told."""
    response = ask(live, verb, **body)
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    return str(error)


def tags(live: Live) -> dict[str, dict[str, Any]]:
    models = httpx.get(f"{live.url}/api/tags", timeout=WAIT_S).json()["models"]
    return {model["name"]: model for model in models}


def loaded(live: Live) -> list[str]:
    return [model["name"] for model in httpx.get(f"{live.url}/api/ps", timeout=WAIT_S).json()["models"]]


def ended(live: Live) -> None:
    """When all works have."""
    until(lambda: not any(thread.is_alive() for thread in list(live.house.works._running.values())))
