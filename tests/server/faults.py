"""What a server must never do, whatever clients do: log an error, or have asyncio complain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LOGGERS = (None, "headrace", "uvicorn", "asyncio")  # some of which may not pass on to the root what they are told


class _Errors(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.found = found
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name == "asyncio":
            self.found.append(self.format(record))


@contextmanager
def watched() -> Iterator[list[str]]:
    """What was logged as an error or worse, what asyncio warned of, and what came to any loop's exception handler."""
    found = list[str]()
    errors, loggers = _Errors(found), [logging.getLogger(name) for name in LOGGERS]
    handle = asyncio.BaseEventLoop.call_exception_handler

    def noted(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        found.append(f"left to asyncio: {context}")
        handle(loop, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "call_exception_handler", noted)
        for logger in loggers:
            logger.addHandler(errors)
        try:
            yield found
        finally:
            for logger in loggers:
                logger.removeHandler(errors)
