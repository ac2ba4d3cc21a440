"""One loop for everybody: the tools that a chat offers, the way of a call to its result, and rounds of both.

Whatever goes wrong in a tool goes back to the model as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from headrace.errors import RequestInvalid, ToolFailed
from headrace.events import Done, Event, Timings, ToolCall, ToolResult, Usage
from headrace.tools.builtin import BUILTIN
from headrace.tools.schema import Function, Schema, describe, fits, schema_of
from headrace.transcript import Transcript

MAX_ROUNDS = 8  # calls and results, before the model must do without
MAX_RESULT_CHARACTERS = 6000

_F = TypeVar("_F", bound=Function)


@dataclass(frozen=True, slots=True)
class Tool:
    """Anything that can be called: the door for tools that are no Python functions.

    `schema` is what the model is shown. `run` takes the arguments by name and gives text or JSON data; what it raises
    is told to the model. Without `run` the tool is only offered. One that is not `safe` is asked about before it runs.
    """

    schema: Mapping[str, Any]
    run: Callable[[dict[str, Any]], Any] | None = None
    safe: bool = False


AnyTool = Mapping[str, Any] | Function | Tool  # a schema alone can be offered, not run
# Whether a call may run: True, or False or the sentence that the model is told instead.
Approve = Callable[[ToolCall], bool | str]
# One answer to messages; with a choice, that one instead of the tool_choice that was asked for.
Answer = Callable[[Sequence[Mapping[str, Any]], str | None], Iterator[Event]]


def safe(function: _F) -> _F:
    """Marks a tool that may run without being asked about: it changes nothing, and tells nobody anything."""
    function.headrace_safe = True  # type: ignore[attr-defined]
    return function


class Toolbox:
    """`schemas` is what a template gets, each as the user gave it; `runnable` maps the names of those that can run."""

    __slots__ = ("runnable", "schemas")

    def __init__(self, tools: Sequence[AnyTool] = ()) -> None:
        known = [_tool(tool) for tool in tools]
        self.schemas: list[Mapping[str, Any]] = [tool.schema for tool in known]
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise RequestInvalid(f"two tools are named {name!r}: give each a name of its own")
        self.runnable: Mapping[str, Tool] = MappingProxyType(
            {name: tool for name, tool in zip(names, known, strict=True) if tool.run}
        )

    @property
    def names(self) -> list[str]:
        """The tools offered, in their order."""
        return [_name_of(schema) for schema in self.schemas]

    def run(self, call: ToolCall, approve: Approve | None = None) -> ToolResult:
        """What the tool gives back: text as it is, anything else as JSON, a failure as `error: ` and its reason.

        `approve` is asked before a tool runs that is not marked safe. Ctrl-C ends the tool, not the answer.
        """
        try:
            return ToolResult(call.id, call.name, _capped(self._compute(call, approve)))
        except ToolFailed as failure:
            reason = str(failure)
        except KeyboardInterrupt:
            reason = "the user stopped it"
        except Exception as failure:  # a user's function may raise anything
            reason = f"{type(failure).__name__}: {failure}"
        return ToolResult(call.id, call.name, _capped(f"error: {reason}"), error=True)

    def _compute(self, call: ToolCall, approve: Approve | None) -> str:
        tool = self.runnable.get(call.name)
        if tool is None and call.name in self.names:
            raise ToolFailed(f"{call.name} cannot be run here: only its schema was given")
        if tool is None or tool.run is None:
            offered = ", ".join(self.names)
            raise ToolFailed(
                f"unknown tool {call.name!r}: " + (f"the tools are {offered}" if offered else "there is none")
            )
        if approve and not tool.safe and (answer := approve(call)) is not True:
            raise ToolFailed(answer or "the user does not want it to run")
        result = tool.run(call.arguments)
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def toolbox_of(tools: str | Sequence[AnyTool] | None) -> Toolbox:
    """None offers no tool, "builtin" those of `headrace.tools.builtin`, a list its own schemas, functions and Tools."""
    if tools is None:
        return Toolbox()
    if tools == "builtin":
        return Toolbox(BUILTIN)
    if not isinstance(tools, list | tuple):
        raise RequestInvalid(f'tools is {tools!r}: give None, "builtin", or a list of schemas and Python functions')
    return Toolbox(tools)


def converse(
    answer: Answer,
    messages: list[dict[str, Any]],
    toolbox: Toolbox,
    rounds: int,
    approve: Approve | None = None,
) -> Iterator[Event]:
    """Answers until none calls a tool, for at most so many `rounds` of calls and results; one Done for all of them.

    `messages` grows by what was said, called and given back. A call that was demanded is demanded once: answers after
    the first choose for themselves, and the one after the last round has to do without tools.
    """
    done: list[Done] = []
    while True:
        said, calls = Transcript(messages), list[ToolCall]()
        choice = None if not done else "auto" if len(done) < rounds else "none"
        for event in answer(messages, choice):
            if isinstance(event, Done):
                done.append(event)
                continue
            said.add(event)
            if isinstance(event, ToolCall):
                calls.append(event)
            yield event
        if not calls or len(done) > rounds or not toolbox.runnable:
            yield _total(done)
            return
        for call in calls:
            result = toolbox.run(call, approve)
            said.add(result)
            yield result


def _tool(tool: AnyTool) -> Tool:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping):
        return Tool(tool)
    if callable(tool):
        schema = schema_of(tool)
        run = partial(_call_function, tool, schema["name"], schema["parameters"])
        return Tool(schema, run, tool in BUILTIN or getattr(tool, "headrace_safe", False) is True)
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


def _call_function(function: Function, name: str, parameters: Schema, arguments: dict[str, Any]) -> Any:
    _check(name, arguments, parameters)
    return function(**arguments)


def _check(name: str, arguments: Mapping[str, Any], parameters: Schema) -> None:
    """Whether the arguments are those the function takes; ToolFailed names the first that is not."""
    properties: dict[str, Schema] = parameters["properties"]
    for argument in arguments:
        if argument not in properties:
            known = f"its arguments are {', '.join(properties)}" if properties else "it takes none"
            raise ToolFailed(f"{name} has no argument {argument!r}: {known}")
    for argument in parameters["required"]:
        if argument not in arguments:
            raise ToolFailed(f"{name} needs the argument {argument!r}")
    for argument, value in arguments.items():
        if not fits(value, properties[argument]):
            given = json.dumps(value, ensure_ascii=False, default=str)[:60]
            raise ToolFailed(f"argument {argument!r} of {name} must be {describe(properties[argument])}, not {given}")


def _capped(content: str) -> str:
    if len(content) <= MAX_RESULT_CHARACTERS:
        return content
    left_out = len(content) - MAX_RESULT_CHARACTERS
    return f"{content[:MAX_RESULT_CHARACTERS]}\n[{left_out} more characters were left out]"


def _total(done: Sequence[Done]) -> Done:
    """The sum of all rounds; time to the first token is that of the first."""
    usages, times = [event.usage for event in done], [event.timings for event in done]
    return Done(
        done[-1].reason,
        Usage(
            sum(u.prompt_tokens for u in usages),
            sum(u.completion_tokens for u in usages),
            sum(u.forced_tokens for u in usages),
            sum(u.cached_tokens for u in usages),
        ),
        Timings(
            queue_s=sum(t.queue_s for t in times),
            prompt_s=sum(t.prompt_s for t in times),
            decode_s=sum(t.decode_s for t in times),
            first_token_s=times[0].first_token_s,
        ),
        tuple(dict.fromkeys(warning for event in done for warning in event.warnings)),
        done[-1].dropped,
    )
