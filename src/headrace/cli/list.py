"""`headrace list`: the models that are here, or those that can be pulled."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from typing import Any

import click

from headrace.cli._table import table
from headrace.cli.show import human_size


@click.command("list", short_help="List the models that are here, or those to pull.")
@click.option("--available", is_flag=True, help="List the published models of the family instead, and what each takes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(available: bool, as_json: bool) -> None:
    """List the models that are here: Headrace's own, and those that Ollama and Hugging Face's libraries keep.

    Any of them can be run by its name, without a download. FROM says whose files they are.
    """
    rows = _published() if available else _here()
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif available:
        click.echo(_offers(rows))
        click.echo(f"\nLicence: {', '.join(dict.fromkeys(row['license'] for row in rows))}")
    else:
        click.echo(table(("NAME", "SIZE", "FROM", "MODIFIED", ""), list(map(_line, rows))))


def _here() -> list[dict[str, Any]]:
    from headrace.library.models import Library

    rows = [
        {
            "name": str(one.name),
            "origin": one.origin,
            "digest": one.digest or None,
            "size_bytes": one.size_bytes,
            "modified": one.modified.astimezone().isoformat(timespec="seconds"),
            "problem": one.problem,
        }
        for one in Library.here().listed()
    ]
    return [*_installed(), *rows]


def _installed() -> list[dict[str, Any]]:
    """What comes with Headrace, and with packages beside it."""
    from headrace import checkpoint, nano, packaged
    from headrace.errors import ModelNotFound

    rows = []
    for name in (nano.NAME, *packaged.installed()):
        try:
            path = checkpoint.find(name)
        except ModelNotFound:  # nano, where an installation is damaged
            continue
        modified = datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
        rows.append(
            {
                "name": name,
                "origin": "installed",
                "digest": None,
                "size_bytes": path.stat().st_size,
                "modified": modified,
                "problem": None,
            }
        )
    return rows


def _published() -> list[dict[str, Any]]:
    from headrace.library import family

    return [
        {
            "name": str(one.name),
            "size_bytes": one.size_bytes,
            "memory_bytes": {str(window): size for window, size in one.memory_bytes.items()},
            "source": str(one.source),
            "license": one.license,
        }
        for one in family.available()
    ]


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    return row["name"], human_size(row["size_bytes"]), row["origin"], row["modified"][:10], row["problem"] or ""


def _offers(rows: list[dict[str, Any]]) -> str:
    """On a terminal without room for it, there is no column of where they come from: the names will do."""
    titles, offers = ("NAME", "SIZE", "MEMORY AT 4K", "AT 32K", "FROM"), list(map(_offer, rows))
    whole = table(titles, offers)
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < max(map(len, whole.splitlines())):
        return table(titles[:-1], [offer[:-1] for offer in offers])
    return whole


def _offer(row: dict[str, Any]) -> tuple[str, ...]:
    memory = [human_size(size) for size in row["memory_bytes"].values()]
    return row["name"], human_size(row["size_bytes"]), *memory, row["source"]
