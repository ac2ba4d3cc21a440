"""What went wrong, as an error object of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from headrace.errors import (
    OUTCOMES,
    Busy,
    CacheExceeded,
    ContextExceeded,
    DeadlineExceeded,
    FieldRefused,
    Forbidden,
    HeadraceError,
    KeyMissing,
    ModelClosed,
    ModelNotFound,
    RequestInvalid,
)
from headrace.server.endpoint import Reply
from headrace.server.lines import server_sent
from headrace.server.too_long import MORE_CACHE, remedies

# The type and the code of what has its own; anything else is an `invalid_request_error`, or from 500 on an `api_error`.
KINDS: Mapping[type[HeadraceError], tuple[str, str | None]] = MappingProxyType(
    {
        KeyMissing: ("authentication_error", "invalid_api_key"),
        Forbidden: ("permission_error", None),
        ModelNotFound: ("not_found_error", "model_not_found"),
        ContextExceeded: ("invalid_request_error", "context_length_exceeded"),
        CacheExceeded: ("invalid_request_error", "context_length_exceeded"),
        Busy: ("overloaded_error", "server_busy"),
        ModelClosed: ("overloaded_error", "server_busy"),
        DeadlineExceeded: ("api_error", "deadline_exceeded"),
    }
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """`prompt` is the field of a route that may be too long for the context window; where it `cuts`, the route has
    fields that ask for a window and for the prompt to be cut."""

    prompt: str | None = None
    cuts: bool = False

    def refuse(self, error: HeadraceError) -> Reply:
        return Reply.json({"error": self._object(error)}, OUTCOMES[type(error)].http_status)

    def last_words(self, error: HeadraceError) -> bytes:
        """In the middle of a stream: the official clients raise an APIError of it."""
        return server_sent({"error": self._object(error)})

    def _object(self, error: HeadraceError) -> dict[str, Any]:
        default = "invalid_request_error" if OUTCOMES[type(error)].http_status < 500 else "api_error"
        kind, code = KINDS.get(type(error), (default, None))
        said = {"message": self._message(error), "type": kind}
        return {**said, "param": self._param(error), "code": code or _code(error)}

    def _message(self, error: HeadraceError) -> str:
        if isinstance(error, ContextExceeded):
            window = "num_ctx" if self.cuts else None
            return f"{error.problem}: {remedies(error, window, 'context to shift or truncate' if self.cuts else None)}"
        return f"{error.problem}: {MORE_CACHE}" if isinstance(error, CacheExceeded) else str(error)

    def _param(self, error: HeadraceError) -> str | None:
        match error:
            case RequestInvalid():
                return error.field
            case ModelNotFound():
                return "model"
            case ContextExceeded() | CacheExceeded():
                return self.prompt
        return None


def _code(error: HeadraceError) -> str | None:
    if isinstance(error, FieldRefused):
        return "unsupported_parameter" if error.known else "unknown_parameter"
    return None
