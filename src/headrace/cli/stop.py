"""`headrace stop`: a server unloads a model."""

from __future__ import annotations

import contextlib

import click

from headrace.cli import _completing
from headrace.cli._server import server_options, url_from


@click.command("stop", short_help="Make a server unload a model.")
@click.argument("model", shell_complete=_completing.names_of_models)
@server_options
def command(model: str, host: str | None, api_key: str | None) -> None:
    """Unload MODEL at a running server, Headrace's or Ollama's, when what it answers now has ended."""
    from headrace.connection import Server, same_name  # httpx: not needed for `--help`

    with contextlib.closing(Server(url_from(host), api_key)) as server:
        loaded = [one["name"] for one in server.loaded()]
        server.unload(model)  # which says so where there is no such model
    click.echo(f"Stopped {model}." if same_name(model, loaded) else f"{model} was not loaded.")
