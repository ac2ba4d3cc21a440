"""What clients of Ollama's API send: the bodies of its routes, and how some of their values are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from headrace.errors import RequestInvalid
from headrace.server.durations import seconds
from headrace.server.wire import Fields
from headrace.text.window import Policy

LEVELS: Final = ("high", "medium", "low", "max")  # of thinking; here each of them is all there is
KeepAlive = int | float | str | None
_IMAGES: Final = "images are for models that make some, and there are none here"


class Extras(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What can be asked of Headrace that Ollama does not know."""

    experts: bool = False
    context: Policy | None = None


class Asked(Fields):
    """What chat and generate have in common."""

    model: str = ""
    stream: bool = True
    format: dict[str, Any] | str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    keep_alive: KeepAlive = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = msgspec.field(name="_debug_render_only", default=False)
    headrace: Extras = msgspec.field(default_factory=Extras)

    ignored: ClassVar[frozenset[str]] = frozenset({"runner"})


class CalledFunction(msgspec.Struct, kw_only=True):
    name: str
    arguments: dict[str, Any] | str | None = None
    index: int | None = None


class Called(msgspec.Struct, kw_only=True):
    function: CalledFunction
    id: str | None = None
    type: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """Fields that it does not know are ignored, as Ollama does: clients keep their own things in messages."""

    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[Called] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def plain(self) -> dict[str, Any]:
        """As a Model takes it."""
        plain: dict[str, Any] = {"role": self.role.lower(), "content": self.content or ""}
        if self.thinking:
            plain["thinking"] = self.thinking
        if self.tool_calls:
            plain["tool_calls"] = [
                {"function": {"name": call.function.name, "arguments": call.function.arguments or {}}}
                for call in self.tool_calls
            ]
        if self.tool_name:
            plain |= {"name": self.tool_name, "tool_name": self.tool_name}
        if self.tool_call_id:
            plain["tool_call_id"] = self.tool_call_id
        return plain


class Chat(Asked):
    messages: list[Message] = msgspec.field(default_factory=list)
    tools: list[dict[str, Any]] = msgspec.field(default_factory=list)


class Generate(Asked):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = msgspec.field(default_factory=list)
    raw: bool = False
    images: list[Any] = msgspec.field(default_factory=list)

    refused: ClassVar[Mapping[str, str]] = {"width": _IMAGES, "height": _IMAGES, "steps": _IMAGES}


class Embed(Fields):
    model: str = ""
    input: str | list[str] = ""
    truncate: bool = False
    dimensions: int = 0
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    keep_alive: KeepAlive = None


class Embeddings(Fields):
    model: str = ""
    prompt: str = ""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    keep_alive: KeepAlive = None


class Named(Fields):
    """`name` is what `model` was called once."""

    model: str = ""
    name: str = ""

    @property
    def either(self) -> str:
        return self.model or self.name


class Show(Named):
    verbose: bool = False

    # What a new model would be made of: the answer is about the one that is there.
    ignored: ClassVar[frozenset[str]] = frozenset({"system", "template", "options", "runner"})


class Pull(Named):
    insecure: bool = False
    stream: bool = True

    ignored: ClassVar[frozenset[str]] = frozenset({"username", "password"})


class Push(Pull):
    pass


class Delete(Named):
    pass


class Copy(Fields):
    source: str = ""
    destination: str = ""


class Create(Named):
    stream: bool = True
    from_: str = msgspec.field(name="from", default="")
    files: dict[str, str] = msgspec.field(default_factory=dict)
    adapters: dict[str, str] = msgspec.field(default_factory=dict)
    template: str = ""
    license: str | list[str] = ""
    system: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    messages: list[Message] = msgspec.field(default_factory=list)
    quantize: str = ""
    quantization: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    modelfile: str = ""

    ignored: ClassVar[frozenset[str]] = frozenset({"info"})
    refused: ClassVar[Mapping[str, str]] = {"remote_host": "models are here, and nowhere else"}


def keep_alive_s(keep_alive: KeepAlive) -> float | None:
    """Raises RequestInvalid."""
    return None if keep_alive is None else seconds(keep_alive, "keep_alive")


def thinking(think: bool | str | None) -> bool | None:
    """Whether to think; None leaves it to the model. Raises RequestInvalid."""
    if not isinstance(think, str):
        return think
    if think not in LEVELS:
        levels = ", ".join(f'"{level}"' for level in LEVELS)
        raise RequestInvalid(f'invalid think value: "{think}" (must be {levels}, true, or false)')
    return True


def policy(asked: Asked) -> Policy:
    """What becomes of a prompt that does not fit: Ollama's two fields say it, or our one.

    Raises RequestInvalid where one of them says otherwise than ours.
    """
    said = asked.headrace.context
    if said is None:
        return "truncate" if asked.truncate else "shift" if asked.shift else "error"
    _check_agrees(said, "truncate", asked.truncate, said == "truncate")
    if said != "truncate":  # which is the same with and without `shift`
        _check_agrees(said, "shift", asked.shift, said == "shift")
    return said


def _check_agrees(said: Policy, name: str, given: bool | None, meant: bool) -> None:
    if given is not None and given != meant:
        raise RequestInvalid(
            f'headrace.context is "{said}" but {name} is {str(given).lower()}: leave one of the two out'
        )


def check_images(name: str, images: list[Any] | None) -> None:
    if images:
        raise RequestInvalid(f"{name}: no model here reads images: leave them out")


_GO: Final = re.compile(
    r"""\{\{-?\s*(?:\.[A-Za-z_]|\.\s*-?\}\}|\$|(?:if|range|with)\s|(?:end|else)\s*-?\}\}|else\s+if\s
    |(?:define|block|template)\s+")""",
    re.VERBOSE,
)


def check_language(template: str) -> None:
    """Raises RequestInvalid for one in Ollama's own language."""
    if _GO.search(template):
        raise RequestInvalid(
            "template: it is written in Go's template language, as Ollama's are: here templates are Jinja, such as "
            "{% for message in messages %}{{ message.content }}{% endfor %}"
        )
