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
ERROR = 500
LONGEST_PATH, LONGEST_BODY = 200, 64 << 10  # in a line

_log = logging.getLogger("headrace.requests")


def note(scope: Scope, **facts: Any) -> None:
    """Adds to the line of this request."""
    scope.setdefault(NOTES, {}).update(facts)


@dataclass(frozen=True, slots=True)
class Logged:
    """An ASGI application around another one. With `prompts` the line has the bodies, too: of both, the beginning."""

    app: ASGIApp
    prompts: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, notes = time.perf_counter(), GONE, scope.setdefault(NOTES, {})
        asked, answered = bytearray(), bytearray()

        async def receiving() -> Any:
            message = await receive()
            asked.extend(message.get("body", b"")[: LONGEST_BODY - len(asked)])
            return message

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif self.prompts:
                answered.extend(message.get("body", b"")[: LONGEST_BODY - len(answered)])
            await send(message)

        try:
            await self.app(scope, receiving if self.prompts else receive, sending)
        except Exception:
            status = ERROR if status == GONE else status
            raise
        finally:
            facts = {"client": (scope.get("client") or ("",))[0], "method": scope["method"]}
            facts |= {"path": scope["path"][:LONGEST_PATH], "status": status}
            facts |= {"ms": round((time.perf_counter() - began) * 1000, 1), **notes}
            if self.prompts:
                facts |= {"asked": asked.decode(errors="replace"), "answered": answered.decode(errors="replace")}
            _log.info("request", extra={"facts": facts})


class Lines(logging.Formatter):
    """Lines of JSON, or of words and key=value. Whatever a client wrote is printable, and stays on its line."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self.form == "json":
            whole = {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), **facts}
            return json.dumps(whole | ({"trace": trace} if trace else {}), default=str)
        pairs = [f"{name}={_plain(value)}" for name, value in facts.items()]
        lines = [" ".join([at, record.levelname.lower(), _printable(record.getMessage()), *pairs])]
        # An error's own text may have lines that look like ours: they are further in.
        return "\n".join([*lines, *(f"    {_printable(line)}" for line in (trace or "").splitlines())])


def _plain(value: Any) -> str:
    """As it stands where it is one word."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text and text.isprintable() and not set(' "') & set(text) else json.dumps(text)


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def set_up(form: Form, debug: bool = False) -> None:
    """To the standard error, for all of the server's loggers."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(form))
    for name in ("headrace", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.DEBUG if debug else logging.INFO if name == "headrace" else logging.WARNING)
