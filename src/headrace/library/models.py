"""The models that are here: in our own store, in Ollama's, in Hugging Face's cache; what each says beside its file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from headrace import nano, packaged
from headrace.engine import options
from headrace.errors import FileInvalid, HeadraceError, ModelNotFound, RequestInvalid, StoreRefused, Unsupported
from headrace.library import family, home, modelfile, runnable
from headrace.library.cached import Cached, cached
from headrace.library.files import disk_errors, read_object, read_small
from headrace.library.manifest import Layer, Manifest
from headrace.library.names import HOST, NAMESPACE, TAG, Name
from headrace.library.store import Store
from headrace.preset import Preset

OURS: Final = "headrace"
OLLAMA: Final = "ollama"
HUGGING_FACE: Final = "hugging face"
INSTALLED: Final = "installed"  # with Headrace, or by a package beside it
FILE: Final = "file"  # or a folder, wherever it lies

LARGEST_TEXT: Final = 4 << 20  # bytes of a template, a licence, a system message
MOST_MESSAGES: Final = 10_000
ROLES: Final = ("system", "user", "assistant", "tool")
MOST_NEAR: Final = 3  # names that a sentence suggests

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """A line of a listing. `origin` is OURS, OLLAMA or HUGGING_FACE; `problem` says why it cannot be used.

    `digest` is that of the manifest, "" where there is none.
    """

    name: Name
    origin: str
    digest: str
    size_bytes: int
    modified: datetime
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A model that can be loaded: `path` is a GGUF file, whatever its name, or a folder of safetensors.

    `name` is a path where it was asked for by that. `template` is that of the manifest as it is, Go's in a model of
    Ollama's: it is shown and pushed, and never used.
    """

    name: Name | Path
    origin: str
    path: Path
    preset: Preset
    licenses: tuple[str, ...] = ()
    template: bytes | None = None
    manifest: Manifest | None = None
    modified: datetime | None = None  # when its name was given, where it has a manifest


class Library:
    """All models of this machine. What `others` have is read and never changed; `hub` is Hugging Face's cache."""

    def __init__(self, store: Store, others: Sequence[Store] = (), hub: Path | None = None) -> None:
        self.store, self.others, self.hub = store, others, hub

    @classmethod
    def here(cls) -> Library:
        """Of the folders that the environment says."""
        others = [Store(place.path, can_write=False) for place in home.ollama_folders()]
        return cls(home.own_store(), others, home.hub_folder().path)

    def listed(self) -> list[Known]:
        """Every model once, ours before others', each in order; of others only those of architectures that run here."""
        known = dict[Name, Known]()
        for one in (*self._ours(), *self._ollamas(), *self._hubs()):
            known.setdefault(one.name, one)
        return list(known.values())

    def find(self, name: str | Name) -> Found:
        """By its name, or by the name under which it is known where it comes from.

        Raises ModelNotFound, which suggests names that are near; RequestInvalid for what is no name; FileInvalid and
        Unsupported for what cannot be loaded.
        """
        wanted = Name.parse(name) if isinstance(name, str) else name
        for one in dict.fromkeys((wanted, family.source(wanted))):
            if found := self._find(one):
                return found
        raise ModelNotFound(self._not_found(wanted))

    def _find(self, name: Name) -> Found | None:
        if self.store.has_model(name):
            return read(self.store, name)
        for store in self.others:
            with suppress(StoreRefused, ModelNotFound):  # what belongs to others may be closed to us, or change
                if store.has_model(name):
                    return read(store, name)
        matching = [one for one in self._cached() if _matches(one.name, name)]
        exact = [one for one in matching if one.name == name] or (matching if len(matching) == 1 else [])
        return _of_cache(exact[0]) if exact else None

    def _not_found(self, name: Name) -> str:
        if name in family.sources():
            return f"{name} is not here yet: `headrace pull {name}` fetches it, `headrace list` shows those that are"
        known = [nano.NAME, *packaged.installed()]
        known += map(str, [*(one.name for one in self.listed()), *family.sources()])
        near = get_close_matches(str(name).lower(), sorted({one.lower() for one in known}), n=MOST_NEAR)
        near = [one for one in dict.fromkeys(known) if one.lower() in near]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        pull = f"`headrace pull {name}` may fetch it, " if _names_its_owner(name) or not near else ""
        return (
            f"there is no model {str(name)!r}: {hint}{pull}`headrace list` shows those that are here, and with "
            "--available those that can be pulled; a GGUF file or a model folder can be given, too"
        )

    def _ours(self) -> Iterator[Known]:
        for one in self.store.listed():
            yield Known(one.name, OURS, one.digest, one.size_bytes, one.modified, one.problem)

    def _ollamas(self) -> Iterator[Known]:
        for store in self.others:
            with suppress(StoreRefused):
                for one in store.listed():
                    if _may_run(store, one.name):
                        yield Known(one.name, OLLAMA, one.digest, one.size_bytes, one.modified, one.problem)

    def _hubs(self) -> Iterator[Known]:
        for one in self._cached():
            yield Known(one.name, HUGGING_FACE, "", one.size_bytes, one.modified, one.problem)

    def _cached(self) -> Iterator[Cached]:
        return cached(self.hub) if self.hub else iter(())


def read(store: Store, name: Name) -> Found:
    """A model of a store. Raises ModelNotFound, FileInvalid; Unsupported for one that is no single GGUF file."""
    while True:
        stamp = store.stamp(name)
        try:
            return _read(store, name)
        except FileInvalid:
            if store.stamp(name) == stamp:  # else it was removed or replaced while it was read
                raise


def _read(store: Store, name: Name) -> Found:
    manifest, name = store.manifest(name), store.spelled(name)
    texts = _Texts(store, name, manifest)
    models = manifest.of("model")
    if manifest.of("adapter"):
        raise Unsupported(f"{name} has an adapter, and adapters are not supported yet: pull the model without it")
    if len(models) != 1:
        raise Unsupported(f"{name} has {len(models)} model layers, and one is expected: take its GGUF file instead")
    if not store.has(models[0]):
        raise FileInvalid(name, f"its weights ({models[0].digest}) are missing or not whole: pull it again")
    return Found(
        name=name,
        origin=OURS if store.can_write else OLLAMA,
        path=store.blob(models[0].digest),
        preset=_preset(name, texts),
        licenses=tuple(texts.all("license")),
        template=texts.last_bytes("template"),
        manifest=manifest,
        modified=store.modified(name),
    )


def requires(found: Found) -> str | None:
    """The version of Ollama that its config asks for."""
    with suppress(RequestInvalid, FileInvalid, OSError):
        if found.manifest is not None and found.manifest.config is not None:
            said = _object(found, found.manifest.config).get("requires")
            return modelfile.version(said) if isinstance(said, str) else None
    return None


def stated(found: Found) -> dict[str, Any]:
    """The parameters of its manifest as they stand there, those too that nothing heeds here; none that no Modelfile may
    state."""
    kept, given = dict[str, Any](), dict[str, Any]()
    with suppress(FileInvalid, OSError):
        for layer in found.manifest.of("params")[-1:] if found.manifest else ():
            given = _object(found, layer)
    for name, value in given.items():
        with suppress(RequestInvalid):
            kept |= modelfile.checked(modelfile.Modelfile("", {name: value})).parameters
    return kept


def _object(found: Found, layer: Layer) -> dict[str, Any]:
    return read_object(found.path.parent / layer.digest.replace(":", "-"), LARGEST_TEXT)


class _Texts:
    """The small layers of a model."""

    def __init__(self, store: Store, name: Name, manifest: Manifest) -> None:
        self._store, self._name, self._manifest = store, name, manifest

    def all(self, kind: str) -> Iterator[str]:
        for layer in self._manifest.of(kind):
            yield self._bytes(layer).decode(errors="replace")

    def last_bytes(self, kind: str) -> bytes | None:
        """As Ollama has it, the last of several counts."""
        layers = self._manifest.of(kind)
        return self._bytes(layers[-1]) if layers else None

    def last(self, kind: str) -> str:
        return (self.last_bytes(kind) or b"").decode(errors="replace")

    def json(self, kind: str) -> Any:
        data = self.last_bytes(kind)
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError):
            raise FileInvalid(self._name, f"the layer of its {kind} is not JSON: pull it again") from None

    def _bytes(self, layer: Layer) -> bytes:
        path = self._store.blob(layer.digest)
        if not self._store.has(layer):
            raise FileInvalid(self._name, f"its {layer.kind} ({layer.digest}) is missing or not whole: pull it again")
        with disk_errors(path):
            return read_small(path, LARGEST_TEXT)


def _preset(name: Name, texts: _Texts) -> Preset:
    stated = _parameters(name, texts.json("params"))
    return Preset(
        name=str(name),
        parameters=stated.parameters,
        num_ctx=stated.num_ctx,
        template=texts.last("jinja"),
        system=texts.last("system"),
        messages=_messages(name, texts.json("messages")),
    )


def _parameters(name: Name, given: Any) -> options.Options:
    """One by one: a parameter that is not known here, or out of its range, must not keep a model from running."""
    if not isinstance(given, Mapping | None):
        raise FileInvalid(name, "the layer of its params is not a JSON object: pull it again")
    parameters, num_ctx = dict[str, Any](), None
    for key, value in (given or {}).items():
        try:
            stated = options.read({key: value}, "")
        except RequestInvalid as error:
            _log.warning("%s: a parameter of its own is left out: %s", name, error)
            continue
        parameters |= stated.parameters
        num_ctx = stated.num_ctx or num_ctx
    return options.Options(parameters, num_ctx)


def _messages(name: Name, given: Any) -> tuple[Mapping[str, Any], ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MOST_MESSAGES or not all(map(_is_message, given)):
        raise FileInvalid(name, "the layer of its messages is no list of messages: pull it again")
    return tuple({"role": one["role"], "content": one["content"]} for one in given)


def _is_message(one: object) -> bool:
    match one:
        case {"role": str(role), "content": str()}:
            return role in ROLES
    return False


def _may_run(store: Store, name: Name) -> bool:
    with suppress(HeadraceError, OSError):
        config = store.manifest(name).config
        return config is None or runnable.may_run(store.blob(config.digest))
    return True


def _names_its_owner(name: Name) -> bool:
    """What a bare name means at a registry nobody can tell; it is more likely one of the names that are near."""
    return (name.host, name.namespace.lower()) != (HOST, NAMESPACE)


def _matches(one: Name, wanted: Name) -> bool:
    """Without a tag, a repository will do."""
    return one == wanted or (wanted.tag.lower() == TAG and one.key[:3] == wanted.key[:3])


def _of_cache(one: Cached) -> Found:
    if one.problem:
        raise FileInvalid(one.name, one.problem)
    licenses = list[str]()
    if one.license is not None:
        with suppress(OSError, FileInvalid):
            licenses.append(read_small(one.license, LARGEST_TEXT).decode(errors="replace"))
    return Found(one.name, HUGGING_FACE, one.path, Preset(name=str(one.name)), tuple(licenses))
