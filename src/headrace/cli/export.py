"""`headrace export`: a model as others take it, a GGUF file or a folder of safetensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli import _completing
from headrace.cli._steps import steps
from headrace.errors import RequestInvalid
from headrace.library.names import TAG

if TYPE_CHECKING:
    from headrace.library.files import Progress
    from headrace.library.models import Found

PACKED = ".panels"


@click.command("export", short_help="Write a model to a GGUF file or a folder.")
@click.argument("model", shell_complete=_completing.models)
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--form",
    type=click.Choice(["gguf", "safetensors"]),
    help="What to write; by default gguf for a DESTINATION that ends in .gguf, else a folder of safetensors.",
)
@click.option(
    "--floats",
    type=click.Choice(["f32", "bf16", "f16"]),
    help="What quantised weights become in a folder; by default f32, which holds their values exactly.",
)
@click.option("--force", is_flag=True, help="Write over DESTINATION if it exists.")
def command(model: str, destination: Path, form: str | None, floats: str | None, force: bool) -> None:
    """Write MODEL, by its name or a path, to DESTINATION.

    A GGUF file is given back byte for byte; --form gguf and a folder that exists put it there under the model's name. A
    folder of safetensors is what transformers and others load, value for value. MODEL may also be a packed file of
    Headrace's cache (.panels): the GGUF file that it was made from is written.
    """
    form = form or _form(model, destination)
    if floats and form == "gguf":
        raise RequestInvalid("--floats is for a folder of safetensors: a GGUF file is given back as it is")
    if _is_packed(model):
        _unpack(Path(model), destination, form, force)
        return
    from headrace.library import opening  # NumPy and the tokenizer: not needed for `--help`
    from headrace.library.export import export

    found = opening.find(model)
    if form == "gguf" and destination.is_dir():
        destination /= file_name(found)
    _check_free(destination, force)
    with _bar(destination) as tell:
        export(found, destination, form, floats or "f32", tell, force=force)
    click.echo(f"Wrote {destination}.")


def file_name(found: Found) -> str:
    """For a GGUF file: its own, unless that is a blob's; else what the model is called, with a tag that says more."""
    if found.path.suffix.lower() == ".gguf":
        return found.path.name
    if isinstance(found.name, Path):
        return f"{found.name.name}.gguf"
    stem = found.name.model.removesuffix("-GGUF")
    return f"{stem}.gguf" if found.name.tag == TAG else f"{stem}-{found.name.tag}.gguf"


def _form(model: str, destination: Path) -> str:
    if destination.suffix == ".safetensors":
        raise RequestInvalid(f"{destination}: safetensors are written as a folder: give the name of one")
    return "gguf" if destination.suffix.lower() == ".gguf" or _is_packed(model) else "safetensors"


def _is_packed(model: str) -> bool:
    return model.endswith(PACKED)


def _unpack(packed: Path, destination: Path, form: str, force: bool) -> None:
    from headrace.engine.packed_file import export

    if form != "gguf":
        raise RequestInvalid(f"{packed} is a packed file, of which the GGUF file alone comes back: leave --form out")
    if destination.is_dir():
        destination /= f"{packed.stem}.gguf"
    _check_free(destination, force)
    with _bar(destination) as tell:
        export(packed, destination, tell)
    click.echo(f"Wrote {destination}.")


def _check_free(destination: Path, force: bool) -> None:
    is_export = destination.is_file() or (destination / "config.json").is_file()
    if is_export and not force:
        raise RequestInvalid(f"{destination} exists: --force writes over it")


@contextmanager
def _bar(destination: Path) -> Iterator[Progress]:
    from headrace.library.progress import Progress as Step

    with steps() as report:
        yield lambda done, total: report(Step(f"writing {destination.name}", None, total, done))
