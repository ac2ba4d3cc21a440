"""`headrace ps`: what a server has loaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from headrace.cli._server import server_options, url_from
from headrace.cli._table import table
from headrace.cli.show import human_size

COLUMNS: Final = ("NAME", "SIZE", "STATE", "CONTEXT", "CACHE", "IN FLIGHT", "WAITING", "UNTIL")
FOR_EVER_S: Final = 50 * 365 * 86400  # Ollama's for ever is some centuries
UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
UNKNOWN: Final = "-"  # to Ollama's own server


@click.command("ps", short_help="List the models that a server has loaded.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(host: str | None, api_key: str | None, as_json: bool) -> None:
    """List the models that a running server, Headrace's or Ollama's, has loaded.

    STATE is loading, loaded or unloading. CACHE has the tokens of the prefix cache that can be found again, and the
    memory that keys and values take of what they may take. IN FLIGHT counts the requests that are answered or wait,
    WAITING the prompts of these that have no place yet. UNTIL says when a model is unloaded if nobody asks for it.
    """
    from headrace.connection import Server  # httpx: not needed for `--help`

    with contextlib.closing(Server(url_from(host), api_key)) as server:
        rows = list(map(facts, server.loaded()))
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        click.echo(table(COLUMNS, list(map(_cells, rows))))
    else:
        click.echo(f"{server.url} has no model loaded.", err=True)


def facts(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values of what /api/ps says of a model; null is what the server does not say, and `until` for ever."""
    more = _object(loaded.get("headrace"))
    cache = _object(more.get("cache"))
    until = _moment(loaded.get("expires_at"))
    return {
        "name": loaded["name"],
        "size_bytes": _count(loaded.get("size")),
        "state": state if isinstance(state := more.get("state"), str) else "loaded",
        "num_ctx": _count(loaded.get("context_length")),
        "cache_tokens": _count(cache.get("tokens")),
        "cache_bytes": _count(cache.get("size_bytes")),
        "cache_capacity_bytes": _count(cache.get("capacity_bytes")),
        "in_flight": _count(more.get("in_flight")),
        "running": _count(more.get("running")),
        "waiting": _count(more.get("waiting")),
        "until": until and until.isoformat(timespec="seconds"),
    }


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _moment(value: Any) -> datetime | None:
    """In the time of this place; None for what is as good as for ever, and for what is no moment."""
    try:
        moment = datetime.fromisoformat(value).astimezone()
    except (TypeError, ValueError, OverflowError):
        return None
    left_s = (moment - datetime.now(UTC)).total_seconds()
    return moment if abs(left_s) < FOR_EVER_S else None


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        UNKNOWN if row["size_bytes"] is None else human_size(row["size_bytes"]),
        row["state"],
        _number(row["num_ctx"]),
        _cache(row["cache_tokens"], row["cache_bytes"], row["cache_capacity_bytes"]),
        _number(row["in_flight"]),
        _number(row["waiting"]),
        _until(row),
    )


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _cache(tokens: int | None, used: int | None, capacity: int | None) -> str:
    if used is None or capacity is None:
        return UNKNOWN
    held = "" if tokens is None else f"{tokens:,} tokens, "
    return f"{held}{human_size(used)} of {human_size(capacity)}"


def _until(row: dict[str, Any]) -> str:
    """The time that is left, in its largest unit; it begins anew with every request."""
    if row["until"] is None:
        return "for ever"
    left_s = round((datetime.fromisoformat(row["until"]) - datetime.now(UTC)).total_seconds())
    for seconds, unit in UNITS:
        if left_s >= seconds:
            return f"in {left_s // seconds} {unit}"
    return "now"
