"""`headrace push`: a model to a registry."""

from __future__ import annotations

import click

from headrace.cli import _completing
from headrace.cli._steps import steps


@click.command("push", short_help="Send a model to a registry.")
@click.argument("model", shell_complete=_completing.own_models)
@click.option("--insecure", is_flag=True, help="Allow http:// before the registry's host: unencrypted.")
def command(model: str, insecure: bool) -> None:
    """Send MODEL to the registry that its name speaks of: `headrace cp` gives it such a name.

    What was pulled has the same digests there. Ollama's registry lets in whoever has added HEADRACE_HOME/id_ed25519.pub
    to an account.
    """
    from headrace.library.home import own_store
    from headrace.library.names import Name
    from headrace.library.push import push

    with steps() as report:
        push(Name.parse(model, insecure=insecure), own_store(), report)
