"""What a request to create a model says, as the library takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from headrace.errors import RequestInvalid, Unsupported
from headrace.library import modelfile
from headrace.library.modelfile import REFUSED, Modelfile
from headrace.server.ollama.requests import Create, Message, check_images

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_SENT: Final = "model.gguf"  # the name of the one file of which an old request says but the digest


def read(asked: Create) -> tuple[Modelfile, Mapping[str, str]]:
    """What it says, and the blobs that it is made from, by the names of files. Raises RequestInvalid, Unsupported."""
    for field, instruction in (("adapters", "ADAPTER"), ("renderer", "RENDERER"), ("parser", "PARSER")):
        if getattr(asked, field):
            raise Unsupported(f"{field} is not supported: {REFUSED[instruction]}")
    if asked.modelfile:
        return _of_a_modelfile(asked)
    licenses = [asked.license] if isinstance(asked.license, str) else asked.license
    made = Modelfile(
        source=asked.from_,
        parameters=asked.parameters,
        template=asked.template or None,
        system=asked.system or None,
        licenses=tuple(filter(None, licenses)),
        messages=_messages(asked.messages),
        requires=asked.requires or None,
    )
    return made, {name: digest(text) for name, text in asked.files.items()}


def digest(text: str) -> str:
    """As the store has it. Raises RequestInvalid for what is none."""
    if found := _DIGEST.fullmatch(text):
        return f"sha256:{found[1].lower()}"
    raise RequestInvalid("invalid digest format")


def _of_a_modelfile(asked: Create) -> tuple[Modelfile, Mapping[str, str]]:
    """As it was asked for once: all is in the Modelfile, and its FROM may be a blob, @sha256:... ."""
    said = ("from_", "files", "template", "license", "system", "parameters", "messages", "requires")
    if beside := next((name.strip("_") for name in said if getattr(asked, name)), None):
        raise RequestInvalid(f"{beside} is given beside modelfile, which says all: leave one of the two out")
    made = modelfile.read(asked.modelfile.encode(errors="surrogatepass"), "modelfile")
    if made.source.startswith("@"):
        return replace(made, source=""), {_SENT: digest(made.source[1:])}
    return made, {}


def _messages(given: Sequence[Message]) -> tuple[modelfile.Message, ...]:
    for place, message in enumerate(given):
        check_images(f"messages[{place}].images", message.images)
        if message.tool_calls:
            raise RequestInvalid(f"messages[{place}].tool_calls: a model begins with texts alone: leave them out")
    return tuple(modelfile.Message(message.role.lower(), message.content or "") for message in given)
