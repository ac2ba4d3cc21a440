"""The command line: one file per command, imported when it is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import click

from headrace import __version__
from headrace.cli._advice import of_flags
from headrace.errors import OUTCOMES, HeadraceError

FAILURE, INTERRUPTED = 1, 130


class Commands(click.Group):
    """Finds a command in the file of its name, so that `headrace --version` does not import an engine."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", message="headrace %(version)s")
def headrace() -> None:
    """Runs Liquid AI's LFM2 mixture-of-experts models on the machine you have."""


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Exit code 2 is for what the user can mend, 1 for everything else, 130 for Ctrl-C."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    try:
        headrace.main(arguments, standalone_mode=False, color=False if plain else None)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILURE)
    except HeadraceError as error:
        fail(error)


def fail(error: HeadraceError) -> Any:
    """Says what is wrong, in its one sentence, and exits."""
    click.echo(f"Error: {of_flags(error)}", err=True)
    sys.exit(OUTCOMES[type(error)].exit_code)
