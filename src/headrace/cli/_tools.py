"""Users' functions as tools: found by their names, and asked about before they run."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from typing import Final

import click

from headrace.cli._display import call_line
from headrace.errors import RequestInvalid
from headrace.events import ToolCall
from headrace.tools.schema import Function

ALWAYS: Final = "a"


def find_tool(name: str) -> Function:
    """The function that `module:function` names; modules beside the user are found, too. Raises RequestInvalid."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise RequestInvalid(f"--tool {name!r} names no function: write module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a user's module may fail in any way
        raise RequestInvalid(f"--tool {name!r} cannot be found: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise RequestInvalid(f"--tool {name!r} is a {type(found).__name__}: expected a function")
    return found


@dataclass(slots=True)
class Consent:
    """Asks on the terminal whether a call may run; `trusted` runs everything without a word."""

    trusted: bool
    always: set[str] = field(default_factory=set)  # names that need not be asked about again

    def __call__(self, call: ToolCall) -> bool | str:
        if self.trusted or call.name in self.always:
            return True
        if not sys.stdin or not sys.stdin.isatty() or not sys.stderr.isatty():
            click.secho(
                f"Warning: {call.name} was not run: there is no terminal to ask on, and --trust-tools was not given",
                err=True,
            )
            return f"{call.name} was not run: nobody could be asked for permission"
        click.secho(f"Run {call_line(call)}? [y]es, [n]o, [a]lways: ", nl=False, err=True)
        answer = click.getchar().lower()
        click.echo({"y": "yes", ALWAYS: "always"}.get(answer, "no"), err=True)
        if answer == ALWAYS:
            self.always.add(call.name)
        return answer in ("y", ALWAYS)
