"""What a manifest says of a model beside its weights, in layers of their own and in its config.

    application/vnd.ollama.image.params     {"temperature":0.3,"stop":["<|im_end|>"]}
    application/vnd.ollama.image.system     text, before any conversation
    application/vnd.ollama.image.messages   [{"role":"user","content":"Hi"},...], with which a conversation begins
    application/vnd.ollama.image.license    text, and as many layers as there are licences
    application/vnd.ollama.image.template   in Go's language: kept, sent on as it came, and never used
    application/vnd.headrace.image.template.jinja   a chat template in Jinja: used before the file's own

The last is ours. Ollama passes over layers of a type that it does not know, so a model with one still runs there, and
what lies under Ollama's own type is never taken for Jinja.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.engine import options
from headrace.errors import FileInvalid, RequestInvalid
from headrace.library.files import disk_errors, read_small
from headrace.library.manifest import OLLAMA, Layer, Manifest
from headrace.library.modelfile import ROLES, Message, Modelfile, checked, version
from headrace.library.names import Name
from headrace.library.store import Store
from headrace.preset import Preset

JINJA: Final = "application/vnd.headrace.image.template.jinja"
MODEL: Final = OLLAMA + "model"
LARGEST_BYTES: Final = 4 << 20  # of one of these layers
LARGEST_TOGETHER: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What is empty, the manifest does not say. `config` and `parameters` are as they stand there."""

    config: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    messages: tuple[Message, ...] = ()
    licenses: tuple[str, ...] = ()

    def preset(self, name: str) -> Preset:
        """What to run the model `name` with. Parameters that there are not here are passed over.

        Raises FileInvalid for a value that a parameter cannot have.
        """
        known = {key: value for key, value in self.parameters.items() if key in (*options.HONOURED, "num_ctx")}
        try:
            found = options.read(known, place="PARAMETER ")
        except RequestInvalid as error:
            raise FileInvalid(name, f"its manifest cannot be used: {error}") from None
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return Preset(name, found.parameters, found.num_ctx, self.template, self.system, messages)

    def modelfile(self, source: str) -> Modelfile:
        """What makes the same of `source`, as far as a Modelfile can say it."""
        return Modelfile(
            source,
            dict(filter(None, (_understood(name, value) for name, value in self.parameters.items()))),
            self.template or None,
            self.system or None,
            self.licenses,
            self.messages,
            self.requires or None,
        )

    @property
    def requires(self) -> str:
        """The version of Ollama that it asks for, as a Modelfile can say it."""
        with suppress(RequestInvalid):
            return version(str(self.config.get("requires")))
        return ""


def _understood(name: str, value: Any) -> tuple[str, Any] | None:
    """A parameter as a Modelfile has it, if it can have it: no Modelfile says that a list is empty."""
    with suppress(RequestInvalid):
        found = checked(Modelfile("", {name: value})).parameters
        return None if found.get(name) in (None, []) else (name, found[name])
    return None


def read(store: Store, name: Name, manifest: Manifest) -> Contents:
    """Of the model `name`. Raises FileInvalid for a layer that is missing, too large, or not what it says."""
    reader = _Reader(store, name)
    config = reader.fields(manifest.config) if manifest.config else {}
    layers = {kind: manifest.of(kind) for kind in ("params", "system", "messages", "license")}
    jinja = [layer for layer in manifest.layers if layer.media_type == JINJA]
    return Contents(
        config,
        reader.fields(layers["params"][-1]) if layers["params"] else {},
        reader.text(jinja[-1]) if jinja else "",
        reader.text(layers["system"][-1]) if layers["system"] else "",
        reader.messages(layers["messages"][-1]) if layers["messages"] else (),
        tuple(reader.text(layer) for layer in layers["license"]),
    )


class _Reader:
    """Reads small layers of one model, and no more of them than a real one has."""

    __slots__ = ("_left", "_name", "_store")

    def __init__(self, store: Store, name: Name) -> None:
        self._store, self._name, self._left = store, name, LARGEST_TOGETHER

    def text(self, layer: Layer) -> str:
        path = self._store.blob(layer.digest)
        with disk_errors(path):
            try:
                data = read_small(path, min(LARGEST_BYTES, self._left))
            except FileNotFoundError:
                raise FileInvalid(self._name, f"its layer {layer.digest} is missing: pull it again") from None
        self._left -= len(data)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise FileInvalid(self._name, f"its layer {layer.digest} should be UTF-8 text") from None

    def fields(self, layer: Layer) -> dict[str, Any]:
        found = self._json(layer)
        if not isinstance(found, dict):
            raise FileInvalid(self._name, f"its layer {layer.digest} should be a JSON object")
        return found

    def messages(self, layer: Layer) -> tuple[Message, ...]:
        found = self._json(layer)
        if not isinstance(found, list):
            raise FileInvalid(self._name, f"its layer {layer.digest} should be a JSON list of messages")
        return tuple(self._message(entry) for entry in found)

    def _message(self, entry: object) -> Message:
        match entry:
            case {"role": str(role), "content": str(content)} if role in ROLES:
                return Message(role, content)
        raise FileInvalid(self._name, f"its messages should each have a content, and a role of {', '.join(ROLES)}")

    def _json(self, layer: Layer) -> Any:
        try:
            found = json.loads(self.text(layer), parse_constant=_refuse)
            dumped(found)  # half of a surrogate pair is JSON, and no text
        except (ValueError, RecursionError):
            raise FileInvalid(self._name, f"its layer {layer.digest} should be JSON") from None
        return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


# --- writing


def dumped(value: Any) -> bytes:
    """JSON as Go's encoder writes it: the digest is that of Ollama's layer of the same."""
    text = json.dumps(_whole(value), separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return (text + "\n").encode()


def _whole(value: Any) -> Any:
    """Go has no point in a number that needs none, and the keys of a map in order."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list() | tuple():
            return [_whole(item) for item in value]
        case dict():
            return {key: _whole(item) for key, item in value.items()}
    return value
