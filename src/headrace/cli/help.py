"""`headrace help`: the same as --help behind a command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    place = _reached(context, context.params["words"] or ())
    return place.command.shell_complete(place, incomplete) if isinstance(place.command, click.Group) else []


@click.command("help", short_help="Print the help of a command.")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=_complete)
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of COMMAND, as `headrace COMMAND --help` does."""
    place = _reached(context, words)
    click.echo(place.command.get_help(place), color=context.color)


def _reached(context: click.Context, words: Iterable[str]) -> click.Context:
    """Of the command that the words lead to, or as far as they do. Raises UsageError where they lead nowhere."""
    place = context.find_root()
    for word in words:
        if not isinstance(place.command, click.Group):
            raise click.UsageError(f"{place.command_path!r} has no commands of its own", context)
        name, found, _ = place.command.resolve_command(place, [word])
        if found is None:  # which a completion passes over
            break
        place = click.Context(found, info_name=name, parent=place)
    return place
