"""`headrace verify`: whether what is stored is still what was pulled."""

from __future__ import annotations

import sys

import click

from headrace.cli import _completing
from headrace.cli._progress import progress


@click.command("verify", short_help="Check that the files of models are undamaged.")
@click.argument("models", nargs=-1, shell_complete=_completing.own_models)
def command(models: tuple[str, ...]) -> None:
    """Read all files of MODELS (default: of all that Headrace keeps), and compare them with their digests.

    What is damaged is taken away, so that `headrace pull` fetches it anew; the command then ends with 1.
    """
    from headrace.library.home import own_store
    from headrace.library.names import Name

    store, damaged = own_store(), False
    for name in [*map(Name.parse, models)] or store.names():
        wrong = store.verify(name, progress(str(name)))
        for layer, problem in wrong:
            click.echo(f"{name}: its {layer.kind} ({layer.digest}) is damaged, and taken away: {problem}")
            store.drop(layer)
        damaged = damaged or bool(wrong)
        if not wrong:
            click.echo(f"{name} is whole.")
    sys.exit(1 if damaged else 0)
