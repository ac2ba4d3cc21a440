"""The command line: one file per command, imported when it is used."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, Final

import click

from headrace import __version__
from headrace.cli._advice import of_flags
from headrace.errors import OUTCOMES, HeadraceError

FAILURE, INTERRUPTED = 1, 130
CANNOT_BE_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what stdout may answer, too
PROGRAM: Final = "headrace"
COMPLETE: Final = "_HEADRACE_COMPLETE"  # the variable in which a shell says what it wants

# Ollama's other words for what has a name here.
ALIASES: Final[Mapping[str, str]] = MappingProxyType({"ls": "list", "start": "serve"})

# In the order of the help.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Chat": ("run", "log", "cache"),
        "Models": ("list", "pull", "show", "create", "cp", "rm", "push", "export", "convert", "verify"),
        "Server": ("serve", "ps", "stop"),
        "Measuring": ("doctor", "bench"),
        "More": ("completion", "help"),
    }
)


class Commands(click.Group):
    """Finds a command in the file of its name, so that `headrace --version` does not import an engine."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        args = [ALIASES.get(args[0], args[0]), *args[1:]]  # and so the usage has our word
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and args[0] not in known and not args[0].startswith("-"):
            near = " or ".join(map(repr, get_close_matches(args[0], known)))
            ctx.fail(f"No such command {args[0]!r}.{f' Did you mean {near}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # who says nothing wants to know what there is
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, names in SECTIONS.items():
            commands = [(name, command) for name in names if (command := self.get_command(ctx, name))]
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), command.short_help or "") for name, command in commands])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-v", "--version", message="headrace %(version)s")
def headrace() -> None:
    """Runs Liquid AI's LFM2 mixture-of-experts models on the machine you have.

    `headrace run` opens a chat with nano, which comes with it; `headrace run lfm2:8b` fetches a real model first.
    """


def main(arguments: list[str] | None = None) -> None:
    """The entry point. Exit code 2 is for what the user can mend, 1 for everything else, 130 for Ctrl-C."""
    _open_what_is_closed()
    if COMPLETE in os.environ:
        import_module(f"{__name__}._shells").register()
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    try:
        headrace.main(arguments, PROGRAM, standalone_mode=False, color=False if plain else None)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has enough of it
        _drop_output()
        sys.exit(FAILURE)
    except HeadraceError as error:
        fail(error)
    except OSError as error:
        if error.errno not in CANNOT_BE_WRITTEN or error.filename is not None:
            raise
        _drop_output()
        click.echo(f"Error: the output cannot be written ({error.strerror}): send it somewhere else", err=True)
        sys.exit(FAILURE)


def _open_what_is_closed() -> None:
    """`2>&-` leaves no stream to write to, and many a library looks at it all the same."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - as long as the process


def _drop_output() -> None:
    """So that Python does not try to write the rest of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(error: HeadraceError) -> Any:
    """Says what is wrong, in its one sentence, and exits."""
    click.echo(f"Error: {of_flags(error)}", err=True)
    sys.exit(OUTCOMES[type(error)].exit_code)
