"""A model that a server has, ours or Ollama's: it answers as a loaded one does, over Ollama's API."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from headrace.connection import Server, field, same_name
from headrace.engine.parameters import Parameters
from headrace.errors import HeadraceError, RequestInvalid, ServerFailed
from headrace.events import Done, Dropped, Event, Reason, Text, Thinking, Timings, ToolCall, Usage
from headrace.text.window import Policy, checked
from headrace.tools.loop import MAX_ROUNDS, AnyTool, Approve, converse, toolbox_of

REASONS: Final[Mapping[str, Reason]] = {"length": "length", "repetition": "repetition", "cancelled": "cancelled"}
NS: Final = 1e-9
GRAMMARS: Final = frozenset({"gbnf", "lark", "regex", "choices"})  # of a format, which a schema has not

Message = Mapping[str, Any]
T = TypeVar("T")


class RemoteModel:
    """A model by its name at a server. `close` it, with its connections.

    `num_ctx` is the window to ask for, in tokens, and `keep_alive_s` how long the server keeps the model after an
    answer, infinity for ever: by default both are the server's. Raises ModelNotFound, and what `Server` does.
    """

    def __init__(
        self, server: Server, name: str, num_ctx: int | None = None, keep_alive_s: float | None = None
    ) -> None:
        if num_ctx is not None and num_ctx < 1:
            raise RequestInvalid(f"num_ctx is {num_ctx} but should be a whole number from 1")
        self.server, self.name = server, name
        self.load_s = 0.0  # what the last answer waited for the model to be loaded
        self._keep_alive_s, self._num_ctx = keep_alive_s, num_ctx
        self._told_num_ctx: int | None = None  # by the last answer
        with server.knowing(name):
            self.shown = server.post("/api/show", {"model": name})  # as Ollama describes a model

    @property
    def can_think(self) -> bool:
        """Whether `think` can be asked of it."""
        return "thinking" in self._shown("capabilities", list, [])

    @property
    def num_ctx(self) -> int | None:
        """The window: that of the last answer, else what is asked for, that in which it is loaded, its largest."""
        if known := self._told_num_ctx or self._num_ctx:
            return known
        facts = self._shown("model_info", dict, {})
        largest = facts.get(f"{facts.get('general.architecture')}.context_length")
        try:
            loaded = {one["name"]: one.get("context_length") for one in self.server.loaded()}
        except HeadraceError:
            loaded = {}
        now = loaded.get(same_name(self.name, loaded) or "")
        return next((size for size in (now, largest) if type(size) is int and size > 0), None)

    @property
    def template(self) -> str:
        return self._shown("template", str, "")

    @property
    def parameters(self) -> dict[str, str | list[str]]:
        """Those that the model states for itself, as text; one that is there several times is a list."""
        stated: dict[str, str | list[str]] = {}
        for line in self._shown("parameters", str, "").splitlines():
            name, _, value = line.strip().partition(" ")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            before = stated.get(name)
            if name:
                stated[name] = value if before is None else [*([before] if isinstance(before, str) else before), value]
        return stated

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[AnyTool] | str | None = None,
        run_tools: bool = False,
        *,
        format: Any = None,  # noqa: A002 - Ollama's name, and everybody's
        think: bool | None = None,
        approve: Approve | None = None,
        context: str = "error",
        **parameters: Any,
    ) -> Iterator[Event]:
        """As `Model.chat`, with what Ollama's API has: `format` is "json" or a schema. Tools run here."""
        if isinstance(format, Mapping) and format.keys() & GRAMMARS:
            raise RequestInvalid("format is a grammar, and Ollama's API has none: give json or a JSON schema")
        Parameters().override(**parameters)  # says what is wrong with them
        options = parameters if self._num_ctx is None else {**parameters, "num_ctx": self._num_ctx}
        toolbox, self.load_s = toolbox_of(tools), 0.0
        asked = {
            "model": self.name,
            "options": {name: value for name, value in options.items() if value is not None},
            "format": format,
            "think": think,
            "keep_alive": -1 if self._keep_alive_s == math.inf else self._keep_alive_s,
            **self._policy(checked(context)),
            "stream": True,
        }
        body = {name: value for name, value in asked.items() if value is not None}

        def answer(turns: Sequence[Message], choice: str | None) -> Iterator[Event]:
            offered = {} if choice == "none" or not toolbox.schemas else {"tools": [*map(_tool, toolbox.schemas)]}
            return self._answer({**body, "messages": [*map(_message, turns)], **offered})

        return converse(answer, [*map(dict, messages)], toolbox, MAX_ROUNDS if run_tools else 0, approve)

    def _policy(self, context: Policy) -> Mapping[str, Any]:
        """Of a prompt that does not fit: our own server knows all of them.

        Ollama leaves out the oldest turns where `truncate` is true. Where `shift` is, it writes on beyond the window's
        end, which no policy here allows.
        """
        if self._shown("headrace", dict, {}):
            return {"headrace": {"context": context}}
        return {"truncate": context != "error", "shift": False}

    def close(self) -> None:
        self.server.close()

    def _answer(self, body: Mapping[str, Any]) -> Iterator[Event]:
        asked, first_s, calls = time.perf_counter(), None, 0
        last: Mapping[str, Any] = {}
        for line in self.server.stream("/api/chat", body):
            for event in self._events(line, calls):
                calls += isinstance(event, ToolCall)
                first_s = time.perf_counter() - asked if first_s is None else first_s
                yield event
            last = line
        if last.get("done") is not True:
            raise ServerFailed(f"{self.server.url} ended the answer in its middle")
        yield self._done(last, calls > 0, first_s or 0.0)

    def _events(self, line: Mapping[str, Any], calls: int) -> Iterator[Event]:
        message = self._field(line, "message", dict, {})
        if thinking := self._field(message, "thinking", str, ""):
            yield Thinking(thinking)
        if text := self._field(message, "content", str, ""):
            yield Text(text)
        for number, call in enumerate(self._field(message, "tool_calls", list, []), calls):
            yield self._call(call, number)

    def _call(self, call: Any, number: int) -> ToolCall:
        function = call.get("function") if isinstance(call, dict) else None
        match function:
            case {"name": str(name), "arguments": dict(arguments)}:
                id_ = call.get("id")
                return ToolCall(id_ if isinstance(id_, str) and id_ else f"call_{number}", name, arguments)
        raise ServerFailed(f"{self.server.url}: a tool call should have a function with a name and arguments")

    def _done(self, line: Mapping[str, Any], called: bool, first_s: float) -> Done:
        """With what our own server says beside Ollama's fields, where it does."""

        def count(name: str, of: Mapping[str, Any] = line) -> int:
            return max(self._field(of, name, int, 0), 0)

        more = self._field(line, "headrace", dict, {})
        times = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
        total_s, load_s, prompt_s, decode_s = (count(name) * NS for name in times)
        queue_s = max(total_s - load_s - prompt_s - decode_s, 0.0)
        self.load_s += load_s
        reason = REASONS.get(self._field(more, "reason", str, "") or self._field(line, "done_reason", str, ""), "stop")
        dropped = self._field(more, "dropped", dict, {})
        self._told_num_ctx = count("num_ctx", more) or None
        return Done(
            "tool_calls" if called and reason == "stop" else reason,
            Usage(
                count("prompt_eval_count"),
                count("eval_count"),
                count("forced_tokens", more),
                count("prompt_cached_tokens", more),
            ),
            Timings(queue_s, prompt_s, decode_s, first_s),
            tuple(map(str, self._field(more, "warnings", list, []))),
            Dropped(count("messages", dropped), count("tokens", dropped)) if dropped else None,
        )

    def _shown(self, name: str, kind: type[T], missing: T) -> T:
        return self._field(self.shown, name, kind, missing)

    def _field(self, value: Mapping[str, Any], name: str, kind: type[T], missing: T) -> T:
        return field(value, name, kind, missing, self.server.url)


def _message(turn: Message) -> dict[str, Any]:
    """A turn as Ollama's API has it: a result has the name of its tool, calls are numbered."""
    message = {"role": turn["role"], "content": turn.get("content") or ""}
    if calls := turn.get("tool_calls"):
        message["tool_calls"] = [
            {"function": {"index": number, **call["function"]}, **({"id": call["id"]} if "id" in call else {})}
            for number, call in enumerate(calls)
        ]
    if turn["role"] == "tool":
        names = {"tool_name": turn.get("name"), "tool_call_id": turn.get("tool_call_id")}
        message |= {name: value for name, value in names.items() if value}
    return message


def _tool(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema if "function" in schema else {"type": "function", "function": schema}
