"""`headrace serve`: the models over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from headrace import nano, packaged
from headrace.cli import _completing
from headrace.cli.run import NUM_CTX, RUNTIME, duration_s, options, set_by, size_bytes
from headrace.keys import Key, read_keys
from headrace.library.names import means_a_path, path_of

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434


def _duration(_: click.Context, parameter: click.Parameter, text: str) -> float:
    return duration_s(text, parameter.opts[0])


def _size(_: click.Context, parameter: click.Parameter, text: str) -> int:
    return size_bytes(text, parameter.opts[0]) or 0


class Models(click.types.StringParamType):
    """Paths and names, of which a variable has several with : between them."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """What follows the name of a model, and is no path, is its tag."""
        found: list[str] = []
        for piece in rv.split(":"):
            if found and _is_a_name(piece) and _is_a_name(found[-1].partition("=")[2] or found[-1]):
                found[-1] += f":{piece}"
            else:
                found.append(piece)
        return list(filter(None, found))


def _is_a_name(text: str) -> bool:
    """One without a tag, that is a tag, or a name that may have one: nano has none."""
    is_path = means_a_path(text) or path_of(text) is not None
    return bool(text) and not is_path and ":" not in text and text.lower() not in (nano.NAME, *packaged.MODELS)


@click.command("serve", short_help="Serve models to clients of Ollama's and OpenAI's API.")
@click.option(
    "--host",
    metavar="ADDRESS",
    default=DEFAULT_HOST,
    show_default=True,
    help="The address to listen on: 127.0.0.1, [::1]:8080, http://localhost:8080.",
    **set_by("HOST"),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0 takes any.",
    **set_by("PORT"),
)
@click.option(
    "--model",
    "models",
    type=Models(),
    multiple=True,
    metavar="[NAME=]MODEL",
    shell_complete=_completing.models,
    help="Serve this, too (repeatable): a file, a folder, a model of the library by its name.",
    **set_by("MODEL"),
)
@NUM_CTX
@options(*RUNTIME)
@click.option(
    "--keep-alive",
    "keep_alive_s",
    callback=_duration,
    metavar="DURATION",
    default="5m",
    show_default=True,
    help="Keep an idle model: 5m, -1 is for ever.",
    **set_by("KEEP_ALIVE"),
)
@click.option(
    "--max-models",
    type=click.IntRange(1),
    help="The most models loaded at a time; by default what fits.",
    **set_by("MAX_MODELS"),
)
@click.option(
    "--max-queue",
    type=click.IntRange(1, 4096),
    default=512,
    show_default=True,
    help="The most requests at a time.",
    **set_by("MAX_QUEUE"),
)
@click.option(
    "--api-key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A key that may do everything; KEY:infer or KEY:manage may do that alone (repeatable).",
    **set_by("API_KEY"),
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    shell_complete=_completing.files,
    help="Keys, one on each line, with infer or manage behind it.",
    **set_by("API_KEY_FILE"),
)
@click.option("--insecure", is_flag=True, help="Let other machines in without a key.", **set_by("INSECURE"))
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name of this server (repeatable).",
    **set_by("ALLOW_HOST"),
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Whose pages may ask (repeatable).",
    **set_by("ALLOW_ORIGIN"),
)
@click.option(
    "--max-body",
    "body_bytes",
    callback=_size,
    metavar="SIZE",
    default="32MiB",
    show_default=True,
    help="The largest request.",
    **set_by("MAX_BODY"),
)
@click.option(
    "--deadline",
    "deadline_s",
    callback=_duration,
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="The longest request.",
    **set_by("DEADLINE"),
)
@click.option(
    "--grace",
    "grace_s",
    callback=_duration,
    metavar="DURATION",
    default="10s",
    show_default=True,
    help="What requests may take at the end.",
    **set_by("GRACE"),
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, **set_by("LOG_FORMAT")
)
@click.option("--log-prompts", is_flag=True, help="Log what is asked and answered, too.", **set_by("LOG_PROMPTS"))
@click.pass_context
def command(
    context: click.Context,
    /,
    host: str,
    port: int,
    keys: tuple[str, ...],
    api_key_file: str | None,
    insecure: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    log_format: Any,
    **settings: Any,
) -> None:
    """Serve the models to clients of Ollama's and of OpenAI's API, on http://127.0.0.1:11434."""
    host, port_too = address(host)
    if port_too is not None and context.get_parameter_source("port") is ParameterSource.DEFAULT:
        port = port_too
    from headrace.server import guard, log, start  # its libraries: not needed for `--help`

    known = [*map(Key.of, keys), *(read_keys(Path(api_key_file)) if api_key_file else ())]
    doors = guard.Doors.of(known, hosts, origins)
    guard.check_bind(host, known, insecure)
    log.set_up(log_format)
    start.serve(start.Settings(host, port, doors=doors, **settings), lambda line: click.echo(line, err=True))


def address(text: str) -> tuple[str, int | None]:
    """Host and port of "host", "host:port" or "http://host:port", as OLLAMA_HOST may be."""
    found = re.fullmatch(r"(?:http://)?(\[[^][]*\]|[^][:/]*)(?::(\d{1,5}))?/?", text) or re.fullmatch(
        r"([0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)()", text
    )
    port = int(found[2]) if found and found[2] else None
    if not found or (port is not None and port > 65535):
        raise click.BadParameter(f"{text!r} is not an address: write 127.0.0.1 or 127.0.0.1:8080", param_hint="--host")
    return found[1].strip("[]") or DEFAULT_HOST, port
