"""A model from its registry into the library, as the terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headrace.cli._steps import steps

if TYPE_CHECKING:
    from headrace.library.names import Name
    from headrace.library.store import Store


def fetch(name: Name) -> None:
    """What is missing of it. Its licence is shown before the first byte is fetched."""
    from headrace import packing
    from headrace.library import family
    from headrace.library.models import Library
    from headrace.library.pull import pull

    library = Library.here()
    if (license_ := family.license_of(name)) and not _has(library.store, name):
        click.echo(f"{name} is published under the {license_}: {family.LICENSE_URL}", err=True)
    if why := _too_large(name):
        click.echo(f"Warning: {why}.", err=True)
    with steps() as report:
        packing.bring(library, name, lambda told: pull(name, library.store, told), report)


def _has(store: Store, name: Name) -> bool:
    """Whether it was fetched before; model folders go into Hugging Face's cache."""
    from headrace.library import cached, home

    return store.has_model(name) or name in cached.names(home.hub_folder().path)


def fetch_if_missing(text: str) -> None:
    """For whoever wants to run it. A bare name that is none of the family's is taken for a mistake, not for a wish."""
    from headrace.errors import RequestInvalid
    from headrace.library import family, opening
    from headrace.library.names import Name, means_a_path

    if opening.exists(text) or means_a_path(text):
        return
    try:
        name = Name.parse(text)
    except RequestInvalid:
        return  # and whoever opens it says what is wrong with it
    if "/" in text or family.source(name) != name:
        if why := _too_large(name):
            raise RequestInvalid(f"{why}. `headrace pull {name}` fetches it all the same")
        fetch(name)


def _too_large(name: Name) -> str | None:
    """Why this machine cannot run it, where that is known before a byte is fetched."""
    from headrace.fitting import largest_of_the_family
    from headrace.library import family
    from headrace.machine import format_bytes, memory_bytes

    memory, window = memory_bytes(), family.WINDOWS[0]
    needs = next((one.memory_bytes[window] for one in family.available() if name in (one.name, one.source)), 0)
    if memory is None or needs <= memory:
        return None
    other = largest_of_the_family(memory)
    return (
        f"{name} needs {format_bytes(needs)} of memory with a window of {window:,} tokens, "
        f"but this machine has {format_bytes(memory)}" + (f": {other} would fit" if other else "")
    )
