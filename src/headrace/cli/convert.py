"""`headrace convert`: a model folder, or a GGUF file of floats, to a GGUF file."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli._progress import progress
from headrace.errors import RequestInvalid


@click.command("convert", short_help="Make a GGUF file of a model folder, quantised or not.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--outtype",
    "--quantize",
    "outtype",
    type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_0"]),
    default="q4_0",
    show_default=True,
)
@click.option("--force", is_flag=True, help="Write over DESTINATION if it exists.")
def command(source: Path, destination: Path, outtype: str, force: bool) -> None:
    """Write SOURCE, a Hugging Face folder or a GGUF file of floats, as the GGUF file DESTINATION, in type OUTTYPE."""
    if destination.exists() and not force:
        raise RequestInvalid(f"{destination} exists: --force writes over it")
    from headrace.convert import convert  # NumPy and the tokenizer: not needed for `--help`

    warnings = convert(source, destination, outtype, progress("writing"))
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
