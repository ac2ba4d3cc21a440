"""Small models to keep in stores."""

from __future__ import annotations

from pathlib import Path

from headrace.library.manifest import CONFIG, OLLAMA, Layer, Manifest, build
from headrace.library.names import Name
from headrace.library.store import Store


def install(store: Store, name: str, content: bytes = b"weights", **parts: bytes) -> Manifest:
    """A model of such content; `parts` are further layers by their kind."""
    with store.writing() as session:
        config = session.add(b'{"model_format":"gguf"}', CONFIG)
        layers = [session.add(content, OLLAMA + "model")]
        layers += [session.add(data, OLLAMA + kind) for kind, data in parts.items()]
        return session.put(Name.parse(name), build(config, layers))


def receive(store: Store, content: bytes, layer: Layer) -> Path:
    """A blob that comes in pieces."""
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        for start, stop in partial.missing():
            for at in range(start, stop, 7):
                partial.write(at, content[at : min(at + 7, stop)])
        return partial.commit()
