"""What to do about a prompt that is too long, in the words of where it was given."""

from __future__ import annotations

from headrace.errors import CacheExceeded, ContextExceeded, HeadraceError


def of_flags(error: HeadraceError) -> str:
    """The sentence of an error for whoever has called a command."""
    match error:
        case ContextExceeded(problem=problem):
            return f"{problem}: shorten it, ask for a larger window with --num-ctx, or let it be cut with --context"
        case CacheExceeded(problem=problem):
            return f"{problem}: shorten it, or give the cache more with --cache-bytes"
    return str(error)


def of_conversation(error: HeadraceError) -> str:
    """The same for whoever types at the prompt of a conversation."""
    match error:
        case ContextExceeded(problem=problem):
            larger, cut = "/set parameter num_ctx", "/set context truncate"
            return f"{problem}: shorten it, ask for a larger window with {larger}, or let it be cut with {cut}"
        case CacheExceeded(problem=problem):
            return f"{problem}: shorten it, or begin again with more --cache-bytes"
    return str(error)
