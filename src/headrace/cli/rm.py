"""`headrace rm`: takes models away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headrace.cli import _completing
from headrace.cli._built_in import is_built_in
from headrace.cli.show import human_size
from headrace.errors import ModelNotFound, StoreRefused

if TYPE_CHECKING:
    from headrace.library.names import Name


@click.command("rm", short_help="Remove models.")
@click.argument("models", nargs=-1, required=True, shell_complete=_completing.own_models)
def command(models: tuple[str, ...]) -> None:
    """Take MODELS away, and the files that they alone have, packed weights too.

    What Ollama or Hugging Face's libraries keep stays.
    """
    from headrace import packing
    from headrace.library.home import own_store
    from headrace.library.names import Name

    store = own_store()
    for name in map(Name.parse, models):
        try:
            freed = store.remove(name) + packing.collect_packed()
        except ModelNotFound:
            _check_ours(name)
            raise
        click.echo(f"Removed {name}: {human_size(freed)} are free again.")
    packing.collect(store)


def _check_ours(name: Name) -> None:
    """Raises StoreRefused for a model that is here, and that others look after."""
    from headrace.library.models import OLLAMA, Library

    if is_built_in(name):
        raise StoreRefused(f"{name} comes with Headrace, or with a Python package beside it, and stays")
    for one in Library.here().listed():
        if one.name == name:
            keeper, way = (
                ("Ollama", f"`ollama rm {name}`") if one.origin == OLLAMA else ("Hugging Face", "`hf cache rm`")
            )
            raise StoreRefused(f"{name} is kept by {keeper}, and is not Headrace's to take away: {way} does that")
