"""The models that a server answers for, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headrace import checkpoint, nano, packaged
from headrace.checkpoint import NO_PRESET, Checkpoint, fingerprint
from headrace.errors import ModelNotFound, RequestInvalid
from headrace.library.models import Found, Library
from headrace.library.names import Name, means_a_path, path_of
from headrace.preset import Preset
from headrace.summary import summarise
from headrace.weights import split

TAG = ":latest"


@dataclass(frozen=True, slots=True)
class Shelved:
    """A model that can be asked for. `path` is a file or a folder; `size_bytes` is that of its files."""

    name: str
    path: Path
    size_bytes: int
    modified: datetime
    preset: Preset = NO_PRESET
    spelled: str = ""  # the name as it was given, in its own letters
    licenses: Sequence[str] = ()
    digest: str = ""  # of its manifest, 64 hexadecimal digits, where it has one

    def read(self) -> Checkpoint:
        """Raises FileInvalid, Unsupported."""
        return checkpoint.read(self.path, self.preset)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model without loading it: its `summary` is that of `headrace show`, its `header` what a GGUF
    file says of itself, nothing for a folder."""

    digest: str  # 64 hexadecimal digits, of its header and samples of its weights
    can_think: bool
    summary: Mapping[str, Any]
    header: Mapping[str, Any]

    @property
    def can_call(self) -> bool:
        """Whether its template shows it the tools that are offered."""
        return "tools" in self.summary["template"]["text"]


class Shelf:
    """`nano`, the models of installed packages, what is given (as MODEL or NAME=MODEL: a file, a folder, or the name of
    a model that is here already), and those of the `library`, as they come and go.

    A name is looked up as Ollama's clients write it: in any case, with or without ":latest". Paths are never names:
    whoever may ask a server may not make it read files.
    """

    def __init__(self, given: Sequence[str] = (), library: Library | None = None) -> None:
        places: dict[str, Path | Name] = {nano.NAME: nano.FILE}
        for name in packaged.MODELS:
            try:
                places[name] = packaged.find(name)
            except ModelNotFound:
                continue
        named = [_named(one, library) for one in given]
        for name, place in named:
            if name in places and places[name] != place:
                raise RequestInvalid(f"two models would be called {name}: give one as NAME=MODEL")
            places[name] = place
        self.first = named[0][0] if named else nano.NAME  # who is meant by those who name no model
        self._places: Mapping[str, Path | Name] = MappingProxyType(places)
        self._library = library
        self._known = dict[tuple[object, ...], Facts]()

    @property
    def fixed(self) -> Sequence[str]:
        """The names of those that stay: all but the library's that nobody has given."""
        return list(self._places)

    def fixed_path(self, name: str) -> Path | None:
        """Where one of those is; None for any other name, and for one by which the library knows it as well."""
        own = plain(name)
        place = self._places.get(own)
        if not isinstance(place, Name):
            return place
        found = self._in_library(place)
        return found.path if found and plain(str(found.name)) != own else None

    def names(self) -> Sequence[str]:
        listed = self._library.listed() if self._library else []
        return list(dict.fromkeys((*self._places, *(plain(str(one.name)) for one in listed if one.problem is None))))

    def has(self, name: str) -> bool:
        try:
            return bool(self.find(name))
        except ModelNotFound:
            return False

    def find(self, name: str) -> Shelved:
        """Raises ModelNotFound; FileInvalid and Unsupported for one of the library that cannot be loaded."""
        own = plain(name)
        place = self._places.get(own)
        if isinstance(place, Path):
            return _shelved(own, name, place)
        if found := self._in_library(place or own):
            return replace(_of_library(found, name), name=own) if place else _of_library(found, name)
        raise ModelNotFound(f"model {name!r} not found: this server has {', '.join(self.names())}")

    def _in_library(self, name: str | Name) -> Found | None:
        if self._library is None:
            return None
        try:
            return self._library.find(name)
        except (ModelNotFound, RequestInvalid):
            return None

    def facts(self, name: str) -> Facts:
        """Read once, until the model is another. Raises what `find` does."""
        found = self.find(name)
        key = (found.name, found.path, found.modified, repr(found.preset))
        if key not in self._known:
            self._known[key] = _facts(found)
        return self._known[key]


def _shelved(plain_name: str, name: str, path: Path, preset: Preset = NO_PRESET) -> Shelved:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
    if not stats:
        raise ModelNotFound(f"model {name!r} not found: {path} is empty")
    changed = max(stat.st_mtime for stat in stats)
    size_bytes = sum(stat.st_size for stat in stats)
    return Shelved(plain_name, path, size_bytes, datetime.fromtimestamp(changed, UTC), preset, plain_name)


def _of_library(found: Found, name: str) -> Shelved:
    """What has a manifest is as large, as old and as the digest of that, as for Ollama."""
    spelled = str(found.name)
    shelved = _shelved(plain(spelled), name, found.path, found.preset)
    shelved = replace(shelved, spelled=spelled.removesuffix(TAG), licenses=found.licenses)
    if found.manifest is None:
        return shelved
    return replace(
        shelved,
        size_bytes=found.manifest.size_bytes,
        modified=found.modified or shelved.modified,
        digest=found.manifest.digest.removeprefix("sha256:"),
    )


def _facts(found: Shelved) -> Facts:
    source = found.read()
    header = split.read(found.path)[0].metadata if found.path.is_file() else {}
    return Facts(fingerprint(source), source.tokenizer.id_of("<think>") is not None, summarise(source), header)


def plain(name: str) -> str:
    """The name by which a model is known here: that of its shelf, and of its place among those that are loaded."""
    return name.strip().lower().removesuffix(TAG)


def _named(given: str, library: Library | None) -> tuple[str, Path | Name]:
    """What it is called here, and where it is: a path before a name. Raises ModelNotFound, RequestInvalid."""
    name, equals, model = given.partition("=")
    if not equals or path_of(given):
        name, model = "", given
    if (built_in := checkpoint.always_there(model)) is not None:
        return plain(name or model), built_in
    if path := path_of(model):
        return plain(name or path.stem), path
    if library is None or means_a_path(model):
        raise ModelNotFound(f"there is no model {model!r}: give a file, a folder, a model's name, or NAME=MODEL")
    found = Name.parse(model)
    library.find(found)
    return plain(name or str(found)), found
