"""`headrace pull`: a model from its registry."""

from __future__ import annotations

import click

from headrace.cli import _completing
from headrace.cli._built_in import is_built_in
from headrace.cli._fetching import fetch


@click.command("pull", short_help="Fetch a model from its registry.")
@click.argument("model", shell_complete=_completing.models_to_pull)
@click.option("--insecure", is_flag=True, help="Allow http:// before the registry's host: unencrypted.")
def command(model: str, insecure: bool) -> None:
    """Fetch MODEL, or what of it is new, and check it.

    MODEL is a name as `headrace list --available` has them, one of Ollama's registry (maternion/lfm2:8b), or a GGUF
    repository at Hugging Face with its quantisation (hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0); one of safetensors
    (hf.co/LiquidAI/LFM2-8B-A1B) goes into Hugging Face's cache. A pull that was ended goes on where it was.
    """
    from headrace.library import opening
    from headrace.library.names import Name

    name = Name.parse(model, insecure=insecure)
    if is_built_in(name):
        opening.find(str(name))  # which says how a package that is missing is installed
        click.echo(f"{name} comes with Headrace, and is here.", err=True)
        return
    fetch(name)
