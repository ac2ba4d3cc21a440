"""`headrace completion`: what makes a shell complete our commands."""

from __future__ import annotations

import click


@click.command("completion", short_help="Print the script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, names of models and files.

    \b
    bash:  echo 'eval "$(headrace completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(headrace completion zsh)"' >> ~/.zshrc
    fish:  headrace completion fish > ~/.config/fish/completions/headrace.fish
    """
    from headrace.cli import _shells

    click.echo(_shells.script(shell, context.find_root().command), nl=False)
