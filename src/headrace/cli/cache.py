"""`headrace cache`: the beginnings of prompts, computed once and kept in files."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from headrace import nano
from headrace.cli import _completing
from headrace.cli._display import safe
from headrace.cli._form import read_system
from headrace.cli.run import NUM_CTX, RUNTIME, SYSTEM, TOOLS, options
from headrace.cli.show import human_size
from headrace.errors import ContextExceeded, FileInvalid, RequestInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.engine.snapshot import Snapshot

COLUMNS = ("NAME", "MODEL", "TOKENS", "SIZE", "SAVED")


@click.group("cache", short_help="Keep the beginning of a prompt, computed once.")
def command() -> None:
    """Keep the beginning of a prompt, a long system prompt or many tools, computed once and loaded ever after.

    `headrace run --cache NAME` loads it. NAME is a name, or the path of a file NAME.cache.
    """


@command.command("save", short_help="Compute the beginning of a prompt, and save it.")
@click.argument("name")
@click.option(
    "--model",
    default=nano.NAME,
    show_default=True,
    shell_complete=_completing.models,
    help="A model as `run` knows them.",
)
@options(*SYSTEM, *TOOLS, NUM_CTX, *RUNTIME)
@click.option("-f", "former", hidden=True, help="What --system-file was called before.")
def save(
    name: str,
    model: str,
    system: str | None,
    system_file: str | None,
    tools: str | None,
    functions: tuple[str, ...],
    num_ctx: int | None,
    threads: int | None,
    kv: str | None,
    cache_bytes: int | None,
    former: str | None,
) -> None:
    """Compute what the prompts of `run` begin with under these options, and save it as NAME.

    That is the system prompt and the tools: give `run` the same ones. It is kept in whole blocks of 64 tokens.
    """
    from headrace.cli import _caches  # the engine and its libraries: not needed for `--help`
    from headrace.cli._local import LocalRuntime
    from headrace.cli._session import Session, Settings, offered
    from headrace.cli._tools import find_tool
    from headrace.engine.core import BLOCK_TOKENS

    path, settings = _caches.place(name), Settings(system=read_system(system, system_file or former))
    runtime, own = LocalRuntime(threads, kv, cache_bytes), tuple(map(find_tool, functions))
    with contextlib.closing(runtime.load(model, num_ctx)) as local:
        session = Session(model, local, settings, offered(tools, model, settings), runtime, own)
        prefix = local.model.prefix(*session.beginning())
        if len(prefix) < BLOCK_TOKENS:
            raise RequestInvalid(
                f"the beginning has {len(prefix)} tokens, but one from {BLOCK_TOKENS} on can be saved: "
                "give a longer --system, or --tools builtin"
            )
        whole = len(prefix) // BLOCK_TOKENS * BLOCK_TOKENS
        click.echo(f"computing {whole} tokens", err=True)
        try:
            local.model.prefill(prefix[:whole])
        except ContextExceeded as error:  # which nothing could be cut from: it would be another beginning
            raise RequestInvalid(f"{error.problem}: shorten it, or ask for a larger window with --num-ctx") from None
        saved = local.model.save_cache(path)
    click.echo(f"Saved {saved.tokens} tokens of {saved.name} as {name} ({human_size(path.stat().st_size)}).")


@command.command("list", short_help="List the saved caches.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the saved caches: model, tokens, size, date.

    A file that was cut off, or is no cache, is said to be damaged; `show` reads a file to its last byte.
    """
    from headrace.cli import _caches

    rows = [_facts(path) for path in _caches.saved()]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        click.echo(_table(rows))
    else:
        click.echo("No cache is saved: `headrace cache save NAME` saves one.", err=True)


@command.command("show", short_help="Describe a cache, after reading all of it.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Describe the cache NAME, after reading all of it."""
    from headrace.cli import _caches

    path = _caches.found(name)
    there = _caches.read(path, every_byte=True)
    facts = _facts(path) | {
        "kv": there.identity.kv,
        "isa": there.identity.isa,
        "block_tokens": there.identity.block_tokens,
        "model_digest": there.identity.model,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    rows = {
        "file": facts["path"],
        "model": f"{facts['model']} ({str(facts['model_digest'])[:12]})",
        "tokens": f"{facts['tokens']:,} in {there.blocks} blocks of {there.identity.block_tokens}",
        "size": human_size(facts["size_bytes"]),
        "saved": _moment(facts),
        "keys and values": facts["kv"],
        "instruction set": facts["isa"],
    }
    click.echo("\n".join(safe(f"{title:<18}{value}") for title, value in rows.items()))


@command.command("rm", short_help="Delete a cache.")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the cache NAME."""
    from headrace.cli import _caches

    _caches.remove(_caches.found(name))
    click.echo(f"Deleted {name}.")


def _facts(path: Path) -> dict[str, Any]:
    """Plain JSON values; of a damaged file all that can be said, and why it is one."""
    from headrace.cli import _caches

    there: Snapshot | None = None
    damage: str | None = None
    try:
        there = _caches.read(path)
    except FileInvalid as error:
        damage = str(error).removeprefix(f"{path}: ")
    stat = path.stat()
    return {
        "name": _caches.name_of(path),
        "path": str(path),
        "model": there and there.name,
        "tokens": there and there.tokens,
        "size_bytes": stat.st_size,
        "saved_at": datetime.fromtimestamp(stat.st_mtime).astimezone().isoformat(timespec="seconds"),
        "damage": damage,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns; a damaged file has its reason instead."""
    whole = [row for row in rows if not row["damage"]]
    lines = [COLUMNS, *(_cells(row) for row in whole)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[0] = max(widths[0], *(len(row["name"]) for row in rows))
    shown = dict(zip([row["name"] for row in whole], lines[1:], strict=True))
    body = [COLUMNS, *(shown.get(row["name"], (row["name"], f"damaged: {row['damage']}")) for row in rows)]
    return "\n".join(safe("  ".join(map(str.ljust, cells, widths)).rstrip()) for cells in body)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (row["name"], row["model"], f"{row['tokens']:,}", human_size(row["size_bytes"]), _moment(row))


def _moment(facts: dict[str, Any]) -> str:
    return str(facts["saved_at"])[:16].replace("T", " ")
