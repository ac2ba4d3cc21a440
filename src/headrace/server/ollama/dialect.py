"""How Ollama's API says things: lines of JSON, times, durations, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace.errors import OUTCOMES, CacheExceeded, ContextExceeded, HeadraceError, RequestInvalid
from headrace.server.endpoint import Call, Reply
from headrace.server.lines import one_line
from headrace.server.shelf import Shelved
from headrace.server.too_long import MORE_CACHE, remedies

NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class _Dialect:
    cut: str | None = None  # the fields of a route that let a prompt be cut which is too long

    def refuse(self, error: HeadraceError) -> Reply:
        return Reply.json(_body(error, self.cut), OUTCOMES[type(error)].http_status)


DIALECT: Final = _Dialect()
OF_ANSWERS: Final = _Dialect("truncate or shift")
OF_VECTORS: Final = _Dialect("truncate")


def line(value: Mapping[str, Any]) -> bytes:
    return one_line(value) + b"\n"


def last_words(error: HeadraceError) -> bytes:
    return line(_body(error))


def _body(error: HeadraceError, cut: str | None = None) -> Mapping[str, Any]:
    match error:
        case ContextExceeded(prompt_tokens=has, num_ctx=holds):  # in Ollama's words, for which clients look
            problem = f"the input length exceeds the context length: it has {has} tokens and the window holds {holds}"
            return {"error": f"{problem}: {remedies(error, 'options.num_ctx', cut)}"}
        case CacheExceeded(problem=problem):
            return {"error": f"{problem}: {MORE_CACHE}"}
    return {"error": str(error)}


def rfc3339(moment: datetime | None = None) -> str:
    """In UTC; of now, where none is given."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def shelved(call: Call, model: str) -> Shelved:
    """The model that a request names. Raises RequestInvalid where it names none, ModelNotFound."""
    if not model.strip():
        raise RequestInvalid("model is required")
    return call.model(model)
