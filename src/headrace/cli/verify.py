"""`headrace verify`: whether what is stored is still what was pulled."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from headrace.cli import _completing
from headrace.cli._built_in import is_built_in
from headrace.cli._progress import progress
from headrace.errors import RequestInvalid

if TYPE_CHECKING:
    from headrace.library.names import Name

MISSING: Final = "it is missing or not whole"  # of a store's `verify`


@click.command("verify", short_help="Check that the files of models are undamaged.")
@click.argument("models", nargs=-1, shell_complete=_completing.own_models)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Read all files of MODELS (default: of all that Headrace keeps), and compare them with their digests.

    What is damaged is taken away, so that `headrace pull` fetches it anew; the command then ends with 1.
    """
    from headrace.library.home import own_store
    from headrace.library.names import Name

    names = [*map(Name.parse, models)]
    if built_in := next(filter(is_built_in, names), None):
        raise RequestInvalid(f"{built_in} comes with Headrace, and has no digest to compare it with: leave it out")
    rows = list[dict[str, Any]]()
    for name in names or own_store().names():
        rows.append(_verified(name))
        if not as_json:
            click.echo(_lines(rows[-1]))
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    sys.exit(1 if any(row["damaged"] for row in rows) else 0)


def _verified(name: Name) -> dict[str, Any]:
    """Plain JSON values: which parts of the model are damaged, and were taken away."""
    from headrace import packing
    from headrace.library.models import Library

    library = Library.here()
    store = library.store
    damaged = store.verify(name, progress(str(name)))
    for layer, _ in damaged:
        store.drop(layer)
    parts: list[dict[str, Any]]
    parts = [{"kind": layer.kind, "digest": layer.digest, "problem": problem} for layer, problem in damaged]
    if not parts and (wrong := packing.verify(library, name)):
        parts = [{"kind": "packed weights", "digest": None, "problem": f"{wrong[0]} does not have its checksum"}]
    return {"name": str(name), "whole": not parts, "damaged": parts}


def _lines(row: dict[str, Any]) -> str:
    if row["whole"]:
        return f"{row['name']} is whole."
    return "\n".join(f"{row['name']}: {_said(part)}" for part in row["damaged"])


def _said(part: dict[str, Any]) -> str:
    if part["digest"] is None:
        return f"its {part['kind']} is damaged, and taken away: {part['problem']}; the next start makes it anew"
    gone = "is not there" if part["problem"] == MISSING else f"is damaged, and taken away: {part['problem']}"
    return f"its {part['kind']} ({part['digest']}) {gone}; pull it again, or create it anew"
