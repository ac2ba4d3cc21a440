"""What completes the arguments of commands: names of models, files. Quick: nothing here imports NumPy or the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.library.names import Name
    from headrace.library.store import Store

Items = list[CompletionItem[str]]


def files(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """The shell knows them itself."""
    return [CompletionItem(incomplete, type="file")]


def own_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Those of our own store, but for those that stand there already."""
    given = context.params.get(parameter.name or "") or ()
    return _matching((name for name in _own() if name not in given), incomplete)


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """All that are here; where none fits, files, which are models too."""
    return _matching(_here(), incomplete) or files(context, parameter, incomplete)


def names_of_models(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """The same without the files."""
    return _matching(_here(), incomplete)


def models_to_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Those that are here, those that would be fetched, else files."""
    return _matching([*_here(), *_published()], incomplete) or files(context, parameter, incomplete)


def models_to_pull(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """The family's, and what came from a registry once, which may have changed there."""
    return _matching([*_published(), *_own()], incomplete)


def quantisations(_: click.Context, __: click.Parameter, incomplete: str) -> Items:
    """What `create` makes of floats."""
    return _matching(("q4_0", "q8_0", "f16", "bf16"), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> Items:
    start = incomplete.lower()
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.lower().startswith(start)]


def _published() -> Iterator[str]:
    from headrace.library import family

    yield from map(str, family.sources())


def _own() -> list[str]:
    from headrace.library.home import own_store

    return _names(own_store())


def _here() -> Iterator[str]:
    """Whatever `headrace list` would have, and what it would leave out after a look into the files."""
    from headrace import nano, packaged
    from headrace.library import cached, home
    from headrace.library.store import Store

    yield from (nano.NAME, *packaged.installed())
    yield from _own()
    for place in home.ollama_folders():
        yield from _names(Store(place.path, can_write=False))
    with suppress(HeadraceError, OSError):
        yield from map(str, cached.names(home.hub_folder().path))


def _names(store: Store) -> list[str]:
    """None where they cannot be read: a completion is no place to complain."""
    found: list[Name] = []
    with suppress(HeadraceError, OSError):
        found = store.names()
    return [str(name) for name in found]
