"""Manifests: what a model is made of, as Docker's and OCI's registries and Ollama's store write it down.

    {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
     "config": {"mediaType": ..., "digest": "sha256:...", "size": 485}, "layers": [{the same}, ...]}

Each part is a blob, named by the SHA-256 of its bytes. A manifest is hostile until it is parsed here: digests become
file names, and sizes become space on the disk. Source: https://distribution.github.io/distribution/spec/manifest-v2-2/
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from headrace.errors import FileInvalid, Unsupported

DOCKER: Final = "application/vnd.docker.distribution.manifest.v2+json"
OCI: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.docker.container.image.v1+json"
OLLAMA: Final = "application/vnd.ollama.image."
JINJA: Final = "application/vnd.headrace.template.jinja"  # a chat template; Ollama's are Go, and never used

# What a layer is, by the end of Ollama's media type. Others are carried along, and mean nothing here.
KINDS: Final = (
    "model", "template", "prompt", "system", "params", "messages", "license", "adapter", "projector", "embed", "tensor",
    "json",
)  # fmt: skip

LARGEST_BYTES: Final = 4 << 20  # of a manifest, as registries have it too
MOST_LAYERS: Final = 16_384  # a tensor may be a layer of its own, and 24B-A2B has 7610
LARGEST_BLOB: Final = 1 << 42  # 4 TiB: no model comes near
LONGEST_TYPE: Final = 255

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob, and what it is. `size` in bytes; `digest` as "sha256:" and 64 hexadecimal digits."""

    media_type: str
    digest: str
    size: int

    @property
    def kind(self) -> str:
        """One of KINDS, "jinja", or "" for what is not known."""
        if self.media_type == JINJA:
            return "jinja"
        kind = self.media_type.removeprefix(OLLAMA)
        return kind if kind != self.media_type and kind in KINDS else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was read; `raw` are the bytes as they came, which a registry gets back untouched."""

    config: Layer | None
    layers: tuple[Layer, ...]
    raw: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        return digest_of(self.raw)

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Each blob once: the layers, and the config."""
        found = dict[str, Layer]()
        for layer in (*self.layers, *([self.config] if self.config else ())):
            found.setdefault(layer.digest, layer)
        return tuple(found.values())

    @property
    def size_bytes(self) -> int:
        return sum(layer.size for layer in self.blobs)

    def of(self, kind: str) -> tuple[Layer, ...]:
        """The layers of a kind, in order."""
        return tuple(layer for layer in self.layers if layer.kind == kind)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def digests_in(raw: bytes) -> set[str]:
    """Whatever looks like a digest in bytes that cannot be read as a manifest: what they may still refer to."""
    return {found.decode() for found in re.findall(rb"sha256:[0-9a-f]{64}", raw)}


def parse(raw: bytes, source: object) -> Manifest:
    """`source` is what an error names. Raises FileInvalid; Unsupported for a list of manifests, one per platform."""
    if len(raw) > LARGEST_BYTES:
        raise FileInvalid(source, f"a manifest has at most {LARGEST_BYTES} bytes, and this has {len(raw)}")
    fields = _object(raw, source)
    if "manifests" in fields and "layers" not in fields:
        raise Unsupported(f"{source}: this is a list of manifests for several machines, and no model")
    version, kind = fields.get("schemaVersion"), fields.get("mediaType", DOCKER)
    if type(version) is not int or version != 2 or kind not in (DOCKER, OCI):
        raise FileInvalid(source, "the manifest should be of schema version 2, of Docker's or OCI's type")
    config, layers = fields.get("config"), fields.get("layers")
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise FileInvalid(source, f"the manifest should have a list of at most {MOST_LAYERS} layers")
    found = Manifest(
        None if config is None else _layer(config, source), tuple(_layer(layer, source) for layer in layers), raw
    )
    _check_sizes(found, source)
    return found


def build(config: Layer, layers: Iterable[Layer], annotations: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """The bytes of a manifest, as Ollama writes them."""
    fields = {
        "schemaVersion": 2,
        "mediaType": DOCKER,
        "config": _fields(config),
        "layers": [_fields(layer) for layer in layers],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    return json.dumps(fields, separators=(",", ":")).encode()


def _fields(layer: Layer) -> dict[str, Any]:
    return {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}


def _layer(entry: object, source: object) -> Layer:
    match entry:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)}:
            pass
        case _:
            raise FileInvalid(source, "each layer of a manifest needs a mediaType, a digest and a size")
    if not (0 < len(media_type) <= LONGEST_TYPE and media_type.isascii() and media_type.isprintable()):
        raise FileInvalid(source, f"a layer's mediaType should be a short line of text, not {media_type[:40]!r}")
    if not is_digest(digest):
        raise FileInvalid(source, f"a layer's digest should be sha256: and 64 digits, not {digest[:80]!r}")
    if type(size) is not int or not 0 <= size <= LARGEST_BLOB:
        raise FileInvalid(source, f"a layer's size should be from 0 to {LARGEST_BLOB} bytes")
    return Layer(media_type, digest, size)


def _check_sizes(manifest: Manifest, source: object) -> None:
    """One blob cannot have two sizes."""
    sizes = {layer.digest: layer.size for layer in manifest.blobs}
    for layer in (*manifest.layers, *([manifest.config] if manifest.config else ())):
        if sizes[layer.digest] != layer.size:
            raise FileInvalid(source, f"the manifest gives {layer.digest} two sizes")
    if sum(sizes.values()) > LARGEST_BLOB:
        raise FileInvalid(source, f"the layers take more than {LARGEST_BLOB} bytes together")


def _object(raw: bytes, source: object) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise FileInvalid(source, "a name occurs twice in the manifest")
        return entries

    try:
        found = json.loads(raw.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise FileInvalid(source, "the manifest is not JSON") from None
    if not isinstance(found, dict):
        raise FileInvalid(source, "the manifest is not a JSON object")
    return found
