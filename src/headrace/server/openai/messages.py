"""Conversations and tools of OpenAI's API -> those of `Model.chat`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headrace.errors import FieldRefused, RequestInvalid

# As vLLM and llama.cpp's server join them: templates of the family would print a list as JSON.
BETWEEN_PARTS = "\n"


class Part(msgspec.Struct, kw_only=True):
    """A part of a message's content. `type` is text: this model sees and hears nothing."""

    type: str
    text: str | None = None
    refusal: str | None = None


Content = str | list[Part] | None


class Exact(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whatever else is in it is refused by name."""


class Turn(Exact, tag_field="role"):
    content: Content = None
    name: str | None = None


class SystemTurn(Turn, tag="system"):
    pass


class DeveloperTurn(Turn, tag="developer"):
    """What newer models of OpenAI call the system."""


class UserTurn(Turn, tag="user"):
    pass


class ToolTurn(Turn, tag="tool"):
    tool_call_id: str | None = None


class Called(Exact):
    name: str
    arguments: str | dict[str, Any] = ""  # JSON, or what it stands for


class CallMade(Exact):
    function: Called
    id: str | None = None
    type: Literal["function"] = "function"
    index: int | None = None  # as pieces of streams have it: of no concern


class AssistantTurn(Turn, tag="assistant"):
    """As the model's answers come back, with all that the clients' own types have."""

    tool_calls: list[CallMade] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


AnyTurn = SystemTurn | DeveloperTurn | UserTurn | ToolTurn | AssistantTurn


class Function(Exact):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # calls are held to their schemas in any case


class Tool(Exact):
    function: Function
    type: Literal["function"] = "function"


class Named(Exact):
    name: str


class NamedChoice(Exact, tag_field="type", tag="function"):
    function: Named


class AllowedTool(Exact):
    function: Named
    type: Literal["function"] = "function"


class Allowed(Exact):
    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class AllowedChoice(Exact, tag_field="type", tag="allowed_tools"):
    allowed_tools: Allowed


Choice = Literal["none", "auto", "required"] | NamedChoice | AllowedChoice


def turns(messages: Sequence[AnyTurn]) -> list[dict[str, Any]]:
    """Raises RequestInvalid for a part that is no text."""
    return [_turn(message, f"messages[{place}]") for place, message in enumerate(messages)]


def _turn(message: AnyTurn, where: str) -> dict[str, Any]:
    role = message.__struct_config__.tag
    turn: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": _text(message.content, where)}
    if message.name is not None:
        turn["name"] = message.name
    match message:
        case ToolTurn(tool_call_id=str(id_)):
            turn["tool_call_id"] = id_
        case AssistantTurn():
            turn |= _said(message)
    return turn


def _said(message: AssistantTurn) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if (thought := message.reasoning_content or message.reasoning) is not None:
        said["reasoning_content"] = thought
    if message.tool_calls:
        said["tool_calls"] = [msgspec.to_builtins(call) for call in message.tool_calls]
    if message.content is None and message.refusal is not None:
        said["content"] = message.refusal
    return said


def _text(content: Content, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return BETWEEN_PARTS.join(_part(part, f"{where}.content[{place}]") for place, part in enumerate(content))


def _part(part: Part, where: str) -> str:
    text = {"text": part.text, "refusal": part.refusal}.get(part.type)
    if part.type not in ("text", "refusal"):
        raise FieldRefused(f"{where} is of the type {part.type}, but models here read text alone", where, known=True)
    if text is None:
        raise RequestInvalid(f"{where} has no {part.type}", f"{where}.{part.type}")
    return text


def offered(tools: Sequence[Tool], choice: Choice) -> tuple[list[dict[str, Any]], Any]:
    """The tools as templates print them, and the choice as `Model.chat` takes it.

    Of tools that are merely allowed the others are not offered. Raises RequestInvalid.
    """
    shown = {tool.function.name: _shown(tool.function) for tool in tools}
    if len(shown) < len(tools):
        raise RequestInvalid("two tools have the same name: give each a name of its own", "tools")
    match choice:
        case NamedChoice():
            return list(shown.values()), {"type": "function", "function": {"name": _known(choice.function, shown)}}
        case AllowedChoice(allowed_tools=allowed):
            names = {_known(tool.function, shown) for tool in allowed.tools}
            return [tool for name, tool in shown.items() if name in names], allowed.mode
    if choice == "required" and not tools:
        raise RequestInvalid("tool_choice is 'required' but no tool is offered: give tools", "tool_choice")
    return list(shown.values()), choice


def _known(function: Named, shown: dict[str, dict[str, Any]]) -> str:
    if function.name not in shown:
        raise RequestInvalid(f"tool_choice names {function.name!r}, which is not among the tools", "tool_choice")
    return function.name


def _shown(function: Function) -> dict[str, Any]:
    parts = {"name": function.name, "description": function.description, "parameters": function.parameters}
    return {"type": "function", "function": {name: part for name, part in parts.items() if part is not None}}
