"""What a request can do about a prompt that is too long: its own fields have other names in each dialect."""

from __future__ import annotations

from headrace.errors import ContextExceeded

MORE_CACHE = "shorten it, or start the server with more --cache-bytes"


def remedies(error: ContextExceeded, window: str | None, cut: str | None) -> str:
    """`window` is the field that asks for one, `cut` how a request lets its prompt be cut, where there are such."""
    ways = ["shorten it"]
    if window and error.a_larger_window_would_do:
        ways.append(f"ask for a larger {window}")
    if cut:
        ways.append(f"set {cut}")
    *others, last = ways
    return f"{', '.join(others)}{',' * (len(others) > 1)} or {last}" if others else last
