"""The variables of the environment that Headrace heeds: which there are, what they are set to, which are mistaken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

import click

from headrace.doctor import FOREIGN_THREADS, Finding
from headrace.errors import HeadraceError
from headrace.library import home

PREFIX: Final = "HEADRACE_"
# Those that are no option of a command.
OTHERS: Final = ("HEADRACE_CACHE", "HEADRACE_HOME", "HEADRACE_ISA", "HEADRACE_OFFLINE", "HEADRACE_REGISTRIES")
SECRET: Final = ("HEADRACE_API_KEY",)


def known(group: click.Group) -> dict[str, list[tuple[click.Command, click.Parameter]]]:
    """Each variable of ours with the options that it sets."""
    found: dict[str, list[tuple[click.Command, click.Parameter]]] = {name: [] for name in OTHERS}
    for command in _commands(group):
        for option in command.params:
            if isinstance(option.envvar, str) and option.envvar.startswith(PREFIX):
                found.setdefault(option.envvar, []).append((command, option))
    return found


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        if command := group.get_command(context, name):
            yield command
            if isinstance(command, click.Group):
                yield from _commands(command)


def settings(group: click.Group, environment: Mapping[str, str]) -> dict[str, str | None]:
    """What is set of ours, and of other programs' that Headrace heeds; the usual ones are None where they are not.

    Neither a secret is shown, nor what may be one.
    """
    ours, values = known(group), dict.fromkeys((*home.SHOWN, "OLLAMA_HOST"))
    for name in sorted(environment):
        if name.startswith(PREFIX) and (name not in ours or name in SECRET):
            values[name] = "set"
        elif name.startswith(PREFIX) or name == "OLLAMA_HOST" or name in FOREIGN_THREADS:
            values[name] = home.without_password(environment[name])
    return values | dict(home.settings())


def findings(group: click.Group, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that nobody heeds, probably misspelt, and values that an option does not take."""
    ours = known(group)
    for name in sorted(name for name in environment if name.startswith(PREFIX)):
        if name not in ours:
            near = get_close_matches(name, ours, n=1)
            yield Finding(f"{name} means nothing to Headrace", f"did you mean {near[0]}?" if near else "unset it")
        for command, option in ours.get(name, ()):
            if problem := _refused(command, option):
                yield Finding(f"{name}: {problem}", "set it to another value, or unset it")
                break


def _refused(command: click.Command, option: click.Parameter) -> str | None:
    """What the option says to the value that the environment has for it."""
    context = click.Context(command)
    try:
        option.process_value(context, option.value_from_envvar(context))
    except click.UsageError as error:
        return error.message.rstrip(".")
    except HeadraceError as error:
        return str(error)
    return None
