"""Which server a command talks to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from headrace.errors import RequestInvalid
from headrace.keys import first_secret


def _key(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """The variable may be that of a server on this machine, with all of its keys."""
    if text and context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT:
        return first_secret(text)
    return text


API_KEY = click.option(
    "--api-key",
    metavar="KEY",
    callback=_key,
    envvar="HEADRACE_API_KEY",
    show_envvar=True,
    help="The key that the server wants; of several in the variable the first.",
)
HOST = click.option(
    "--host",
    metavar="URL",
    help="The server; by default that of HEADRACE_HOST or OLLAMA_HOST, or the one on this machine.",
)


def url_from(host: str | None) -> str:
    """What --host says, else HEADRACE_HOST (and HEADRACE_PORT), else OLLAMA_HOST, else this machine's usual place."""
    from headrace.connection import PORT, url_of  # and httpx: not needed for `--help`

    said, port = os.environ.get("HEADRACE_HOST", ""), os.environ.get("HEADRACE_PORT", "")
    if host:
        return url_of(host)
    if not said and not port:
        return url_of(os.environ.get("OLLAMA_HOST", ""))
    if port and not port.isdecimal():
        raise RequestInvalid(f"HEADRACE_PORT is {port!r} but should be a whole number")
    return url_of(said, int(port or PORT))


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return HOST(API_KEY(command))
