"""`headrace pull`: a model from its registry."""

from __future__ import annotations

import click

from headrace.cli._steps import steps


@click.command("pull")
@click.argument("model")
@click.option("--insecure", is_flag=True, help="Allow http:// before the registry's host: unencrypted.")
def command(model: str, insecure: bool) -> None:
    """Fetch MODEL, or what of it is new, and check it.

    MODEL is a name as `headrace list --available` has them, one of Ollama's registry (maternion/lfm2:8b), or a GGUF
    repository at Hugging Face with its quantisation (hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0). A pull that was ended goes
    on where it was.
    """
    from headrace.library import family
    from headrace.library.home import own_store
    from headrace.library.names import Name
    from headrace.library.pull import pull

    name, store = Name.parse(model, insecure=insecure), own_store()
    if (license_ := family.license_of(name)) and not store.has_model(name):
        click.echo(f"{name} is published under the {license_}: {family.LICENSE_URL}", err=True)
    with steps() as report:
        pull(name, store, report)
    store.collect()
