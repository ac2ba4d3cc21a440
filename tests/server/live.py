"""A server as users have it, on a free port of this machine, in a thread of the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from starlette.routing import Route

from headrace.library.registry.client import DEFAULTS, Options
from headrace.server.app import behind, create_app
from headrace.server.endpoint import House
from headrace.server.start import Settings, house_of, listen
from headrace.server.transport import Server


@dataclass(frozen=True, slots=True)
class Live:
    """`url` has no slash at its end; `house` is what the server's routes see."""

    url: str
    house: House
    server: Server


@contextmanager
def running(
    routes: Callable[[House], Sequence[Route]] | None = None,
    limits: Mapping[str, Any] = {},
    registries: Options = DEFAULTS,
    **settings: Any,
) -> Iterator[Live]:
    """From listening to the last connection's end. Other `routes` take the place of the server's own."""
    chosen = Settings(port=0, **settings)
    house = house_of(chosen)
    house = replace(house, limits=replace(house.limits, **limits), registries=registries)
    with listen(chosen.host, chosen.port) as listener:
        app = behind(chosen.doors, house, routes(house)) if routes else create_app(house, chosen.doors)
        server = Server(app, house.limits, chosen.grace_s, house.go_down)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield Live(f"http://127.0.0.1:{listener.getsockname()[1]}", house, server)
        finally:
            server.should_exit = True
            thread.join(timeout=60)
            house.close()
            assert not thread.is_alive(), "the server did not end"
