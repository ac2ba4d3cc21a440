"""`headrace rm`: takes models away."""

from __future__ import annotations

import click

from headrace.cli import _completing
from headrace.cli.show import human_size


@click.command("rm", short_help="Remove models.")
@click.argument("models", nargs=-1, required=True, shell_complete=_completing.own_models)
def command(models: tuple[str, ...]) -> None:
    """Take MODELS away, and the files that they alone have. What Ollama or Hugging Face's libraries keep stays."""
    from headrace.library.home import own_store
    from headrace.library.names import Name

    store = own_store()
    for name in map(Name.parse, models):
        freed = store.remove(name)
        click.echo(f"Removed {name}: {human_size(freed)} are free again.")
    store.collect()
