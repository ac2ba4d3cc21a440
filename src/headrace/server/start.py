"""From settings to a server that runs until it is told to end."""

from __future__ import annotations

import errno
import logging
import math
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from headrace import model
from headrace.engine.residents import KEEP_ALIVE_S, Residents, default_budget
from headrace.errors import RequestInvalid
from headrace.server.app import create_app
from headrace.server.endpoint import House
from headrace.server.guard import Doors
from headrace.server.serving import Serving
from headrace.server.shelf import Shelf
from headrace.server.transport import Server
from headrace.server.wire import Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one server. `models` are those beside the installed ones, as PATH or NAME=PATH."""

    host: str = "127.0.0.1"
    port: int = 11434
    models: Sequence[str] = ()
    doors: Doors = field(default_factory=Doors)
    body_bytes: int = 32 << 20
    max_queue: int = 512
    max_models: int | None = None
    keep_alive_s: float = KEEP_ALIVE_S
    deadline_s: float = 3600.0
    grace_s: float = 10.0
    num_ctx: int | None = None
    threads: int | None = None
    kv: str | None = None
    cache_bytes: int | None = None
    log_prompts: bool = False


def house_of(settings: Settings) -> House:
    """The models of a server, none of them loaded. Raises ModelNotFound, RequestInvalid."""
    shelf = Shelf(settings.models)
    budget = default_budget()
    find = partial(
        model.candidate,
        num_ctx=settings.num_ctx,
        threads=settings.threads,
        kv=settings.kv,
        cache_bytes=settings.cache_bytes,
        budget_bytes=budget,
    )
    residents = Residents(
        lambda name: find(shelf.find(name).path),
        budget,
        max_models=settings.max_models,
        keep_alive_s=settings.keep_alive_s,
    )
    deadline_s = settings.deadline_s if math.isfinite(settings.deadline_s) else 10 * 365 * 86400.0
    serving = Serving(residents, max_queue=settings.max_queue, deadline_s=deadline_s)
    return House(serving, shelf, Limits(body_bytes=settings.body_bytes), settings.log_prompts, settings.num_ctx)


def serve(settings: Settings, tell: Callable[[str], object]) -> None:
    """Listens until a signal ends it; `tell` gets the line that says where. Raises a UserError if it cannot begin."""
    house = house_of(settings)
    listener = listen(settings.host, settings.port)
    with listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        tell(f"Headrace listens on http://{shown}:{port} with {', '.join(house.shelf.names())}. Ctrl-C ends it.")
        server = Server(create_app(house, settings.doors), house.limits, settings.grace_s, house.serving.go_down)
        try:
            server.run([listener])
        finally:
            house.serving.close()
            logging.getLogger("headrace.server").info("ended")


def listen(host: str, port: int) -> socket.socket:
    """Raises RequestInvalid with what is in the way."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "something listens there already (Ollama? another Headrace?): end it, or take another --port"
        else:
            why = error.strerror or str(error)
        raise RequestInvalid(f"cannot listen on {host}:{port}: {why}") from error
