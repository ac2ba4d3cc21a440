"""From settings to a server that runs until it is told to end."""

from __future__ import annotations

import errno
import logging
import math
import os
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from headrace import loading
from headrace.budget import Claim
from headrace.engine.residents import KEEP_ALIVE_S, Candidate, Residents, default_budget
from headrace.errors import RequestInvalid, UserError
from headrace.library.models import Library
from headrace.model import Model
from headrace.server.app import create_app
from headrace.server.endpoint import BODIES, House
from headrace.server.guard import Doors
from headrace.server.serving import Serving
from headrace.server.shelf import Shelf
from headrace.server.transport import Server
from headrace.server.wire import Intake, Limits

CONNECTIONS, OTHER_FILES = 4000, 200
_log = logging.getLogger("headrace.server")


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
    library = Library.here()
    shelf = Shelf(settings.models, library)
    budget = default_budget()
    residents = Residents(
        _finder(settings, shelf, budget),
        budget,
        max_models=settings.max_models,
        keep_alive_s=settings.keep_alive_s,
    )
    deadline_s = settings.deadline_s if math.isfinite(settings.deadline_s) else 10 * 365 * 86400.0
    serving = Serving(residents, max_queue=settings.max_queue, deadline_s=deadline_s)
    limits = Limits(body_bytes=settings.body_bytes, connections=allowed_connections())
    intake = Intake(BODIES * settings.body_bytes)
    return House(serving, shelf, limits, settings.log_prompts, settings.num_ctx, intake, library)


def _finder(settings: Settings, shelf: Shelf, budget_bytes: int) -> Callable[[str], Candidate[Model]]:
    """Each model with as large a cache as leaves room for the others of the shelf, `max_models` of them together."""
    sizes: dict[str, Any] = {"num_ctx": settings.num_ctx, "kv": settings.kv, "budget_bytes": budget_bytes}

    @cache
    def claim(name: str) -> Claim | None:
        try:
            return loading.claim(shelf.find(name).read(), **sizes)
        except UserError:
            return None  # it cannot be loaded, and takes nothing

    def find(name: str) -> Candidate[Model]:
        def share(own: Claim) -> int:
            alone = settings.max_models == 1
            others = () if alone else filter(None, (claim(other) for other in shelf.fixed if other != name))
            return own.beside(list(others), budget_bytes, settings.max_models)

        source = shelf.find(name).read()
        options = {"threads": settings.threads, "cache_bytes": settings.cache_bytes, **sizes}
        return loading.candidate(source, share=share, **options)

    return find


def serve(settings: Settings, tell: Callable[[str], object]) -> None:
    """Listens until a signal ends it; `tell` gets the line that says where. Raises a UserError if it cannot begin."""
    house = house_of(settings)
    with listen(settings.host, settings.port) as listener:
        server = Server(create_app(house, settings.doors), house.limits, settings.grace_s, house.go_down)
        with server.capture_signals():
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            tell(f"Headrace listens on http://{shown}:{port} with {', '.join(house.shelf.names())}. Ctrl-C ends it.")
            try:
                server.run([listener])
            finally:
                ended = house.close()
                _log.info("ended")
    if not ended:
        os._exit(0)  # Python would wait for the thread that still loads a model, or asks a registry


def listen(host: str, port: int) -> socket.socket:
    """Raises RequestInvalid with what is in the way."""
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it. asyncio would set it on those whose protocol is known to be TCP, which is not said of
        # these; without it a small write waits for the client to acknowledge the one before, for up to 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:  # a name may be none that can be looked up
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = "something listens there already (Ollama? another Headrace?): end it, or take another --port"
        else:
            why = getattr(error, "strerror", None) or str(error)
        raise RequestInvalid(f"cannot listen on {host}:{port}: {why}") from error


def allowed_connections() -> int:
    """As many as the process may have files, and some are left for models; it may have more if it asks for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if resource.RLIM_INFINITY not in (soft, hard) and soft < wanted:
        soft = min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(CONNECTIONS, soft - OTHER_FILES))
