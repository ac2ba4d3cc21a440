"""A prompt that is too long: each route says what its request can do about it, by its own names, and that helps."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from headrace.errors import CacheExceeded, ContextExceeded
from headrace.server.too_long import remedies
from tests.server.live import Live, running

LONG, TOO_LONG = "word " * 100, "word " * 5000  # for a window of 64, and for that of the model
SMALL: dict[str, Any] = {"options": {"num_ctx": 64}}
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any] | None]] = {
    "chat in a small window": (
        "/api/chat",
        {"messages": [{"role": "user", "content": LONG}], **SMALL},
        "shorten it, ask for a larger options.num_ctx, or set truncate or shift",
        {"options": {"num_ctx": 4096, "num_predict": 1}},
    ),
    "chat": (
        "/api/chat",
        {"messages": [{"role": "user", "content": TOO_LONG}]},
        "shorten it or set truncate or shift",
        {"truncate": True, "options": {"num_predict": 1}},
    ),
    "generate in a small window": (
        "/api/generate",
        {"prompt": LONG, **SMALL},
        "shorten it, ask for a larger options.num_ctx, or set truncate or shift",
        {"truncate": True, "options": {"num_ctx": 64, "num_predict": 1}},
    ),
    "embed in a small window": (
        "/api/embed",
        {"input": ["Hi", LONG], **SMALL},
        "shorten it, ask for a larger options.num_ctx, or set truncate",
        {"truncate": True},
    ),
    "embed": ("/api/embed", {"input": TOO_LONG}, "shorten it or set truncate", {"truncate": True}),
    "embeddings in a small window": (
        "/api/embeddings",
        {"prompt": LONG, **SMALL},
        "shorten it or ask for a larger options.num_ctx",
        {"options": {"num_ctx": 4096}},
    ),
    "embeddings": ("/api/embeddings", {"prompt": TOO_LONG}, "shorten it", None),
    "OpenAI's chat in a small window": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": LONG}], "num_ctx": 64, "max_tokens": 1},
        "shorten it, ask for a larger num_ctx, or set context to shift or truncate",
        {"num_ctx": 4096},
    ),
    "OpenAI's chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": TOO_LONG}], "max_tokens": 1, "num_ctx": 9000},
        "shorten it or set context to shift or truncate",
        {"context": "truncate"},
    ),
    "completions": (
        "/v1/completions",
        {"prompt": TOO_LONG, "max_tokens": 1},
        "shorten it or set context to shift or truncate",
        {"context": "shift"},
    ),
    "OpenAI's embeddings": ("/v1/embeddings", {"input": TOO_LONG}, "shorten it", None),
    "tokenize": ("/tokenize", {"messages": [{"role": "user", "content": TOO_LONG}]}, "shorten it", None),
}


def said(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize(("path", "given", "advice", "better"), CASES.values(), ids=CASES)
def test_what_helps_is_said(
    path: str, given: dict[str, Any], advice: str, better: dict[str, Any] | None, live: Live
) -> None:
    body = {"model": "nano", **given}
    refused = httpx.post(live.url + path, json=body, timeout=60)
    assert refused.status_code == 400
    window = min(given.get("options", given).get("num_ctx", 4096), 4096)
    assert said(refused).endswith(f" holds {window}: {advice}")
    if better:
        assert httpx.post(live.url + path, json=body | better, timeout=60).status_code == 200
    if path.startswith("/v1") and "embeddings" not in path:
        assert httpx.post(live.url + path, json={**body, "stream": True}, timeout=60).json() == refused.json()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_the_memory_of_the_cache_is_the_servers(path: str) -> None:
    with running(cache_bytes=1 << 20) as live:
        messages = [{"role": "user", "content": "word " * 3000}]
        refused = httpx.post(live.url + path, json={"model": "nano", "messages": messages}, timeout=60)
        assert refused.status_code == 400
        assert said(refused).endswith("shorten it, or start the server with more --cache-bytes")


def test_a_larger_window_is_advised_where_it_is_enough() -> None:
    assert remedies(ContextExceeded(70, 64, 71), "num_ctx", None) == "shorten it or ask for a larger num_ctx"
    for error in (ContextExceeded(70, 64, 70), ContextExceeded(70, 64)):
        assert remedies(error, "num_ctx", None) == "shorten it"


def test_the_errors_themselves_speak_python() -> None:
    for error in (ContextExceeded(70, 64), CacheExceeded(70, 64)):
        assert str(error).startswith(f"{error.problem}: ")
        assert "--" not in str(error)
