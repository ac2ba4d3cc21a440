"""`headrace cp`: another name for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headrace.cli import _completing
from headrace.cli._built_in import check_free, is_built_in
from headrace.cli._steps import steps

if TYPE_CHECKING:
    from headrace.library.names import Name


@click.command("cp", short_help="Give a model another name, too.")
@click.argument("source", shell_complete=_completing.names_of_models)
@click.argument("destination")
def command(source: str, destination: str) -> None:
    """Give the model SOURCE the name DESTINATION, too; what had that name loses it.

    It takes no room, but where Ollama or Hugging Face's libraries keep SOURCE, or where it comes with Headrace: then
    DESTINATION is a copy.
    """
    from headrace.library.home import own_store
    from headrace.library.names import Name

    old, new = Name.parse(source), Name.parse(destination)
    check_free(new)
    if not is_built_in(old) and own_store().has_model(old):
        own_store().copy(old, new)
    else:
        _copy_of_others(old, new)
    click.echo(f"{new} is {old}, too.")


def _copy_of_others(old: Name, new: Name) -> None:
    """As `create` makes one. Raises ModelNotFound."""
    from headrace import packing
    from headrace.library.create import create
    from headrace.library.modelfile import Modelfile
    from headrace.library.models import Library
    from headrace.library.progress import Report

    library = Library.here()

    def make(told: Report) -> None:
        create(new, library.store, Modelfile(str(old)), library=library, report=told)

    with steps() as report:
        packing.bring(library, new, make, report)
