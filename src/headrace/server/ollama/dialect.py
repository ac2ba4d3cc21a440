"""How Ollama's API says things: lines of JSON, times, durations, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace.errors import OUTCOMES, ContextExceeded, HeadraceError, RequestInvalid
from headrace.server.endpoint import Call, Reply
from headrace.server.lines import one_line
from headrace.server.shelf import Shelved

NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class _Dialect:
    def refuse(self, error: HeadraceError) -> Reply:
        return Reply.json(_body(error), OUTCOMES[type(error)].http_status)


DIALECT: Final = _Dialect()


def line(value: Mapping[str, Any]) -> bytes:
    return one_line(value) + b"\n"


def last_words(error: HeadraceError) -> bytes:
    return line(_body(error))


def _body(error: HeadraceError) -> Mapping[str, Any]:
    if isinstance(error, ContextExceeded):  # whose own sentence speaks of the command line
        return {
            "error": f"the input length exceeds the context length: it has {error.prompt_tokens} tokens and the window "
            f"holds {error.num_ctx}: shorten it, ask for a larger options.num_ctx, or allow truncate or shift"
        }
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
