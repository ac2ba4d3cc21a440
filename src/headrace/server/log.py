"""One line for each request: what was asked for and what it took, never what was said unless that was chosen."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

Form = Literal["text", "json"]
NOTES = "headrace.notes"  # where in the scope a route writes what the log should say beside
GONE = 499  # as nginx says that the client went away before it was answered

_log = logging.getLogger("headrace.requests")


def note(scope: Scope, **facts: Any) -> None:
    """Adds to the line of this request."""
    scope.setdefault(NOTES, {}).update(facts)


@dataclass(frozen=True, slots=True)
class Logged:
    """An ASGI application around another one."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, notes = time.perf_counter(), GONE, scope.setdefault(NOTES, {})

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            facts = {"method": scope["method"], "path": scope["path"], "status": status}
            facts |= {"ms": round((time.perf_counter() - began) * 1000, 1), **notes}
            _log.info("request", extra={"facts": facts})


class Lines(logging.Formatter):
    """Lines of JSON, or of words and key=value."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self.form == "json":
            whole = {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), **facts}
            return json.dumps(whole | ({"trace": trace} if trace else {}), ensure_ascii=False)
        pairs = " ".join(f"{name}={_plain(value)}" for name, value in facts.items())
        head = f"{at} {record.levelname.lower()} {record.getMessage()}"
        return "\n".join(part for part in (f"{head} {pairs}".rstrip(), trace) if part)


def _plain(value: Any) -> str:
    """As it stands where it is one word; whatever a client wrote, it stays on its line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def set_up(form: Form, debug: bool = False) -> None:
    """To the standard error, for all of the server's loggers."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(form))
    for name in ("headrace", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.DEBUG if debug else logging.WARNING if name == "uvicorn" else logging.INFO)
