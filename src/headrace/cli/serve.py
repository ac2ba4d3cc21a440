"""`headrace serve`: the models over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headrace.cli.run import NUM_CTX, RUNTIME, duration_s, options, size_bytes

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434


@click.command("serve")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 takes any.")
@click.option(
    "--model", "models", multiple=True, metavar="[NAME=]PATH", help="Serve this file or folder, too (repeatable)."
)
@NUM_CTX
@options(*RUNTIME)
@click.option("--keep-alive", metavar="DURATION", default="5m", show_default=True, help="Keep an idle model: 5m, -1.")
@click.option("--max-models", type=click.IntRange(1), help="The most models loaded at a time; by default what fits.")
@click.option(
    "--max-queue", type=click.IntRange(1, 4096), default=512, show_default=True, help="The most requests at a time."
)
@click.option("--api-key", "keys", multiple=True, metavar="KEY", help="A key that may do everything (repeatable).")
@click.option("--api-key-file", metavar="FILE", help="Keys, one on each line, with infer or manage behind it.")
@click.option("--insecure", is_flag=True, help="Let other machines in without a key.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A name of this server (repeatable).")
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Whose pages may ask (repeatable).")
@click.option("--max-body", metavar="SIZE", default="32MiB", show_default=True, help="The largest request.")
@click.option("--deadline", metavar="DURATION", default="1h", show_default=True, help="The longest request.")
@click.option(
    "--grace", metavar="DURATION", default="10s", show_default=True, help="What requests may take at the end."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-prompts", is_flag=True, help="Log what is asked and answered, too.")
def command(
    host: str,
    port: int,
    models: tuple[str, ...],
    keys: tuple[str, ...],
    api_key_file: str | None,
    insecure: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    max_body: str,
    max_queue: int,
    max_models: int | None,
    keep_alive: str,
    deadline: str,
    grace: str,
    log_format: Any,
    log_prompts: bool,
    **runtime: Any,
) -> None:
    """Serve the models to clients of Ollama's and of OpenAI's API, on http://127.0.0.1:11434."""
    keep_alive_s, deadline_s, grace_s = map(duration_s, (keep_alive, deadline, grace))
    body_bytes = size_bytes(max_body)
    from headrace.server import guard, log, start  # its libraries: not needed for `--help`

    known = [*map(guard.Key, keys), *(guard.read_keys(Path(api_key_file)) if api_key_file else ())]
    guard.check_bind(host, known, insecure)
    log.set_up(log_format)
    start.serve(
        start.Settings(
            host,
            port,
            models,
            guard.Doors(known, hosts, origins),
            body_bytes=body_bytes or 0,
            max_queue=max_queue,
            max_models=max_models,
            keep_alive_s=keep_alive_s,
            deadline_s=deadline_s,
            grace_s=grace_s,
            log_prompts=log_prompts,
            **runtime,
        ),
        lambda line: click.echo(line, err=True),
    )
