"""`headrace create`: a model of the library from a Modelfile, or from what its flags say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli import _completing
from headrace.cli._built_in import check_free
from headrace.cli._steps import steps
from headrace.errors import RequestInvalid

if TYPE_CHECKING:
    from headrace.library.progress import Report


@click.command("create", short_help="Make a model from a Modelfile, or from flags.")
@click.argument("model")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), help="The Modelfile (default: Modelfile, if it is here)."
)
@click.option(
    "--from",
    "source",
    shell_complete=_completing.models,
    help="In place of a Modelfile: a GGUF file, a model folder, or a model's name.",
)
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A default, such as temperature=0.3."
)
@click.option("--system", help="The system message of chats that have none.")
@click.option(
    "--quantize",
    "-q",
    shell_complete=_completing.quantisations,
    help="Quantise float weights: q4_0, q8_0, f16 or bf16.",
)
def command(
    model: str,
    file: Path | None,
    source: str | None,
    parameters: tuple[str, ...],
    system: str | None,
    quantize: str | None,
) -> None:
    """Make MODEL from a Modelfile, or from --from with --parameter and --system.

    FROM is a path beside the Modelfile, or the name of a model that is here. docs/library.md has all
    that a Modelfile may say.
    """
    from headrace import packing
    from headrace.library.create import create
    from headrace.library.models import Library
    from headrace.library.names import Name

    if source is None:
        if parameters or system:
            raise RequestInvalid("--parameter and --system go with --from: a Modelfile says these itself")
        folder, made = _of_file(file or Path("Modelfile"))
    else:
        if file is not None:
            raise RequestInvalid("a model is made from --file or --from, not from both")
        folder, made = Path.cwd(), _of_flags(source, parameters, system)
    library, name = Library.here(), Name.parse(model)
    check_free(name)

    def make(told: Report) -> None:
        create(name, library.store, made, folder=folder, quantize=quantize, library=library, report=told)

    with steps() as report:
        packing.bring(library, name, make, report)


def _of_file(file: Path) -> tuple[Path, Any]:
    from headrace.library import modelfile

    try:
        return file.absolute().parent, modelfile.read(file.read_bytes(), str(file))
    except OSError as error:
        raise RequestInvalid(
            f"{file} cannot be read ({error.strerror}): name a Modelfile with -f, or say --from"
        ) from None


def _of_flags(source: str, parameters: tuple[str, ...], system: str | None) -> Any:
    from headrace.library.modelfile import Modelfile, parameter

    given: dict[str, Any] = {}
    for one in parameters:
        name, equals, value = one.partition("=")
        if not equals:
            raise RequestInvalid(f"--parameter {one!r} should be NAME=VALUE")
        read = parameter(name, value)
        given[name] = [*given.get(name, []), *([read] if isinstance(read, str) else read)] if name == "stop" else read
    return Modelfile(source=source, parameters=given, system=system)
