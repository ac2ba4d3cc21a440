"""The tools that a chat offers, and the running of one call: whatever goes wrong goes back to the model as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from headrace.errors import RequestInvalid, ToolFailed
from headrace.events import ToolCall, ToolResult
from headrace.tools.builtin import BUILTIN
from headrace.tools.schema import Function, Schema, describe, fits, schema_of

MAX_ROUNDS = 8  # calls and results, before the model must do without
MAX_RESULT_CHARACTERS = 6000

Tool = Mapping[str, Any] | Function  # a schema alone can be offered, not run


class Toolbox:
    """`schemas` is what a template gets, each as the user gave it; `runnable` maps a name to its Python function."""

    __slots__ = ("_parameters", "runnable", "schemas")

    def __init__(self, tools: Sequence[Tool] = ()) -> None:
        self.schemas: list[Mapping[str, Any]] = [_schema_of(tool) for tool in tools]
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise RequestInvalid(f"two tools are named {name!r}: give each a name of its own")
        self.runnable: Mapping[str, Function] = MappingProxyType(
            {name: tool for name, tool in zip(names, tools, strict=True) if not isinstance(tool, Mapping)}
        )
        self._parameters: dict[str, Schema] = {
            name: schema["parameters"]
            for name, schema in zip(names, self.schemas, strict=True)
            if name in self.runnable
        }

    @property
    def names(self) -> list[str]:
        """The tools offered, in their order."""
        return [_name_of(schema) for schema in self.schemas]

    def run(self, call: ToolCall) -> ToolResult:
        """What the tool gives back: text as it is, anything else as JSON, a failure as `error: ` and its reason."""
        try:
            return ToolResult(call.id, call.name, _capped(self._compute(call)))
        except ToolFailed as failure:
            reason = str(failure)
        except Exception as failure:  # a user's function may raise anything; an interrupt is none of these
            reason = f"{type(failure).__name__}: {failure}"
        return ToolResult(call.id, call.name, _capped(f"error: {reason}"), error=True)

    def _compute(self, call: ToolCall) -> str:
        function = self.runnable.get(call.name)
        if function is None and call.name in self.names:
            raise ToolFailed(f"{call.name} cannot be run here: only its schema was given")
        if function is None:
            offered = ", ".join(self.names)
            raise ToolFailed(
                f"unknown tool {call.name!r}: " + (f"the tools are {offered}" if offered else "there is none")
            )
        _check(call, self._parameters[call.name])
        result = function(**call.arguments)
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def toolbox_of(tools: str | Sequence[Tool] | None) -> Toolbox:
    """None offers no tool, "builtin" those of `headrace.tools.builtin`, a list its own schemas and functions."""
    if tools is None:
        return Toolbox()
    if tools == "builtin":
        return Toolbox(BUILTIN)
    if not isinstance(tools, list | tuple):
        raise RequestInvalid(f'tools is {tools!r}: give None, "builtin", or a list of schemas and Python functions')
    return Toolbox(tools)


def _schema_of(tool: Tool) -> Mapping[str, Any]:
    if isinstance(tool, Mapping):
        return tool
    if callable(tool):
        return schema_of(tool)
    raise RequestInvalid(f"{tool!r} is not a tool: give a JSON schema with a name, or a Python function")


def _name_of(schema: Mapping[str, Any]) -> str:
    """The name in either common form: `{"type": "function", "function": {...}}` or the bare inner object."""
    inner: Any = schema.get("function", schema)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise RequestInvalid(
            'a tool\'s schema has no "name": give {"name": ..., "description": ..., "parameters": ...}'
        )
    return name


def _check(call: ToolCall, parameters: Schema) -> None:
    """Whether the arguments are those the function takes; ToolFailed names the first that is not."""
    properties: dict[str, Schema] = parameters["properties"]
    for name in call.arguments:
        if name not in properties:
            known = f"its arguments are {', '.join(properties)}" if properties else "it takes none"
            raise ToolFailed(f"{call.name} has no argument {name!r}: {known}")
    for name in parameters["required"]:
        if name not in call.arguments:
            raise ToolFailed(f"{call.name} needs the argument {name!r}")
    for name, value in call.arguments.items():
        if not fits(value, properties[name]):
            given = json.dumps(value, ensure_ascii=False, default=str)[:60]
            raise ToolFailed(f"argument {name!r} of {call.name} must be {describe(properties[name])}, not {given}")


def _capped(content: str) -> str:
    if len(content) <= MAX_RESULT_CHARACTERS:
        return content
    left_out = len(content) - MAX_RESULT_CHARACTERS
    return f"{content[:MAX_RESULT_CHARACTERS]}\n[{left_out} more characters were left out]"
