"""`headrace export`: the GGUF file that a packed file was made from."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli._progress import progress
from headrace.errors import RequestInvalid


@click.command("export")
@click.argument("packed", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over DESTINATION if it exists.")
def command(packed: Path, destination: Path, force: bool) -> None:
    """Write the GGUF file that PACKED (a .panels file) was made from to DESTINATION, byte for byte."""
    if destination.exists() and not force:
        raise RequestInvalid(f"{destination} exists: --force writes over it")
    from headrace.engine.packed import export  # NumPy: not needed for `--help`

    export(packed, destination, progress("writing"))
