"""What to do about a prompt that is too long has its names at each place."""

from __future__ import annotations

import pytest

from headrace.cli._advice import of_conversation, of_flags
from headrace.errors import CacheExceeded, ContextExceeded, HeadraceError, RequestInvalid

WINDOW = "the prompt has 70 tokens but the context window holds 64"
CACHE = "the prompt has 70 tokens but the cache has memory for 64"


@pytest.mark.parametrize(
    ("error", "flags", "conversation"),
    [
        (
            ContextExceeded(70, 64),
            f"{WINDOW}: shorten it, ask for a larger window with --num-ctx, or let it be cut with --context",
            f"{WINDOW}: shorten it, ask for a larger window with /set parameter num_ctx, or let it be cut with "
            "/set context truncate",
        ),
        (
            CacheExceeded(70, 64),
            f"{CACHE}: shorten it, or give the cache more with --cache-bytes",
            f"{CACHE}: shorten it, or begin again with more --cache-bytes",
        ),
        (RequestInvalid("as it is"), "as it is", "as it is"),
    ],
)
def test_the_names_are_those_of_the_place(error: HeadraceError, flags: str, conversation: str) -> None:
    assert of_flags(error) == flags
    assert of_conversation(error) == conversation
