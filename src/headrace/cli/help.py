"""`headrace help`: the same as --help behind a command."""

from __future__ import annotations

import click


@click.command("help", short_help="Print the help of a command.")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of COMMAND, as `headrace COMMAND --help` does."""
    place = context.find_root()
    for word in words:
        group = place.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{place.command_path!r} has no commands of its own", context)
        name, found, _ = group.resolve_command(place, [word])
        assert found is not None  # else it would have been said
        place = click.Context(found, info_name=name, parent=place)
    click.echo(place.command.get_help(place))
