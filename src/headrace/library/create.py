"""`create`: a model of the library from a Modelfile, or from what flags and requests say in its stead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from headrace.convert import check_floats
from headrace.errors import FileInvalid, RequestInvalid
from headrace.library import family
from headrace.library.files import read_object, watched
from headrace.library.manifest import CONFIG, JINJA, OLLAMA, Layer, Manifest, build
from headrace.library.modelfile import Modelfile, checked
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress, Report, unwatched
from headrace.library.source import Work, bring, bring_blobs, bring_found, find, float_blob, requantise
from headrace.library.store import Store
from headrace.weights import split

QUANTIZE: Final = ("q4_0", "q8_0", "f16", "bf16")
LARGEST_BYTES: Final = 4 << 20  # of a config, or of parameters


def create(
    name: Name,
    store: Store,
    modelfile: Modelfile,
    *,
    folder: Path | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
    quantize: str | None = None,
    library: Library | None = None,
    report: Report = unwatched,
) -> Manifest:
    """Makes the model `name`, or what it is from now on; its manifest comes last, so it is made whole or not at all.

    `folder` is that of the Modelfile, at which paths begin; None where FROM may be no path, as for who asks over HTTP.
    `files` are blobs of the store, by the names of files, in FROM's stead. `quantize` is one of QUANTIZE: matrices in
    that type, of a source of floats. A model that FROM names, and that the store does not have, is taken from where the
    `library` finds it: Ollama's store, Hugging Face's cache.

    Raises RequestInvalid, Unsupported, TemplateInvalid, ModelNotFound, FileInvalid, StoreRefused.
    """
    modelfile, quantize = checked(modelfile), _known(quantize)
    if bool(files) == bool(modelfile.source):
        raise RequestInvalid("a model is created from one thing: give `from`, or `files`")
    with store.writing() as session:
        work = Work(store, session, watched(report))
        if files:
            base = _Base.of(*bring_blobs(work, files, name.model, quantize))
        elif isinstance(found := find(modelfile.source, folder), Path):
            base = _Base.of(*bring(work, found, quantize))
        else:
            base = _named(work, found, quantize, library)
        layers = _with(work, modelfile, base)
        config = work.add(dumped(_config(base.config, modelfile.requires, layers)), CONFIG)
        report(Progress("writing manifest"))
        manifest = session.put(name, build(config, layers))
    report(Progress("success"))
    return manifest


@dataclass(frozen=True, slots=True)
class _Base:
    """What the model has before the Modelfile adds to it."""

    layers: list[Layer]
    config: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: Layer, config: Mapping[str, Any]) -> _Base:
        return cls([layer], config)


def _known(quantize: str | None) -> str | None:
    if quantize and quantize.lower() not in QUANTIZE:
        raise RequestInvalid(f"quantize is {quantize[:40]!r} but should be one of {', '.join(QUANTIZE)}")
    return quantize.lower() if quantize else None


def _named(work: Work, name: Name, quantize: str | None, library: Library | None) -> _Base:
    """All that another model has, ours before others'."""
    work.report(Progress("reading model metadata"))
    here = [one for one in (name, family.source(name)) if work.store.has_model(one)]
    if here or library is None:
        return _inherited(work, name, work.session.keep_model(here[0] if here else name), quantize)
    found = library.find(name)
    if found.manifest is not None:
        return _inherited(work, name, bring_found(work, found, found.manifest), quantize)
    base = _Base.of(*bring(work, found.path, quantize))
    licenses = [work.add(text.encode(), OLLAMA + "license") for text in found.licenses]
    return replace(base, layers=base.layers + licenses)


def _inherited(work: Work, source: Name, manifest: Manifest, quantize: str | None) -> _Base:
    layers = list(manifest.layers)
    config = _stated(work.store, source, manifest.config)
    parameters = _stated(work.store, source, *manifest.of("params")[-1:])
    if quantize is not None:
        place, path = float_blob(work.store, source, layers)
        check_floats(source, split.tensors(split.read(path)))
        layers[place], facts = requantise(work, path, quantize)
        config = {**config, **facts}
    for layer in layers:
        if layer in manifest.layers:
            work.tell(layer, known=True)
    return _Base(layers, config, parameters)


def _stated(store: Store, source: Name, layer: Layer | None = None) -> dict[str, Any]:
    """What another model's config or parameters say. Raises FileInvalid for what could not be written again."""
    if layer is None:
        return {}
    if not store.has(layer):
        raise FileInvalid(source, f"{layer.digest} is missing or not whole: pull it again")
    found = read_object(store.blob(layer.digest), LARGEST_BYTES)
    try:
        dumped(found)
    except ValueError:  # NaN, or half of a surrogate pair
        raise FileInvalid(source, f"{layer.digest} holds what is no JSON: pull it again") from None
    return found


def _with(work: Work, modelfile: Modelfile, base: _Base) -> list[Layer]:
    """The layers of `base`, less what the Modelfile says anew, and with that."""
    layers = base.layers
    for text, media_type in ((modelfile.template, JINJA), (modelfile.system, OLLAMA + "system")):
        if text is not None:
            layers = _replaced(work, layers, media_type, text.encode())
    for text in filter(None, modelfile.licenses):
        layer = work.add(text.encode(), OLLAMA + "license")
        layers = [*layers, *([] if layer in layers else [layer])]
    if modelfile.parameters:
        parameters = sorted({**base.parameters, **modelfile.parameters}.items())
        layers = _replaced(work, layers, OLLAMA + "params", dumped(dict(parameters)))
    if modelfile.messages:
        messages = dumped([asdict(message) for message in modelfile.messages])
        layers = _replaced(work, layers, OLLAMA + "messages", messages)
    return layers


def _replaced(work: Work, layers: list[Layer], media_type: str, data: bytes) -> list[Layer]:
    """No data takes away what there was."""
    kept = [layer for layer in layers if layer.media_type != media_type]
    return [*kept, work.add(data, media_type)] if data else kept


def _config(base: Mapping[str, Any], requires: str | None, layers: list[Layer]) -> dict[str, Any]:
    """In the order of Ollama's; the machine is that which Ollama names, whatever this one is."""
    last = {
        "architecture": base.get("architecture", "amd64"),
        "os": base.get("os", "linux"),
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    first = {key: value for key, value in base.items() if key not in last}
    return first | ({"requires": requires} if requires else {}) | last


def dumped(value: Any) -> bytes:
    """JSON as Go's encoder writes it: the digest is that of Ollama's layer of the same. Raises ValueError."""
    text = json.dumps(_whole(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return (text + "\n").encode()


def _whole(value: Any) -> Any:
    """Go has no point in a number that needs none."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list() | tuple():
            return [_whole(item) for item in value]
        case dict():
            return {key: _whole(item) for key, item in value.items()}
    return value
