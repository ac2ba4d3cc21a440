"""`headrace cp`: another name for a model."""

from __future__ import annotations

import click

from headrace.cli import _completing


@click.command("cp", short_help="Give a model another name, too.")
@click.argument("source", shell_complete=_completing.own_models)
@click.argument("destination")
def command(source: str, destination: str) -> None:
    """Give the model SOURCE the name DESTINATION, too. It takes no room; what had that name loses it."""
    from headrace.library.home import own_store
    from headrace.library.names import Name

    name = Name.parse(destination)
    own_store().copy(Name.parse(source), name)
    click.echo(f"{name} is {Name.parse(source)}, too.")
