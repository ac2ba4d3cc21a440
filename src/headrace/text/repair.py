"""Earlier turns as the model would have written them, whatever its template does with them.

The family's templates drop the `tool_calls` of a message, print content that is null, and put strings between quotes
without escaping them. So calls are written into the text of their turns before a template sees them: else a model does
not see that it called a tool, and takes the result that follows for the user's words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import RequestInvalid
from headrace.text.calls import CALL_END, CALL_START, format_call
from headrace.text.pythonic.writing import is_name
from headrace.text.template import Template

Message = Mapping[str, Any]


def write_calls(messages: Sequence[Message], template: Template) -> Sequence[Message]:
    """The same messages, each with content; calls as the model writes them: before its prose in the LFM2 dialect, after
    it in LFM2.5's. The dialect is the template's. What is no list of messages is left for the template to refuse.
    """
    if not isinstance(messages, list | tuple):
        return messages
    calls_first = "<|tool_list_start|>" in template.source
    return [_written(message, calls_first) for message in messages]


def _written(message: Message, calls_first: bool) -> Message:
    if not isinstance(message, Mapping):
        return message
    # An empty list of calls would still be printed, as a block without calls.
    kept = {key: value for key, value in message.items() if value or key != "tool_calls"}
    prose = "" if kept.get("content") is None else kept["content"]
    calls = kept.get("tool_calls")
    if kept.get("role") != "assistant" or not isinstance(calls, list | tuple):
        return {**kept, "content": prose}
    block = f"{CALL_START}[{', '.join(map(_call, calls))}]{CALL_END}"
    del kept["tool_calls"]
    return {**kept, "content": _joined(block, prose, calls_first)}


def _joined(block: str, prose: Any, calls_first: bool) -> Any:
    """Text, or OpenAI's content parts, with the calls on their side."""
    if isinstance(prose, list | tuple) and all(isinstance(part, Mapping) for part in prose):
        texts = [part.get("text") for part in prose]
        if all(isinstance(text, str) for text in texts):
            prose = "".join(map(str, texts))
        else:
            part = {"type": "text", "text": block}
            return [part, *prose] if calls_first else [*prose, part]
    if not isinstance(prose, str):
        raise RequestInvalid("an assistant message with tool_calls should have text, or nothing, as its content")
    return block + prose if calls_first else prose + block


def _call(call: Any) -> str:
    """From an OpenAI tool call, whose arguments may be an object or its JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    match function:
        case {"name": str(name), **rest}:
            arguments: Any = rest.get("arguments") or {}
        case _:
            raise RequestInvalid('a tool call should look like {"function": {"name": ..., "arguments": {...}}}')
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments) if arguments.strip() else {}
        return format_call(name, arguments)
    except (AttributeError, ValueError, RecursionError):
        if not is_name(name):
            raise RequestInvalid(f"a tool call has the name {name!r}: expected that of a tool") from None
        raise RequestInvalid(f"the arguments of the tool call {name!r} should be a JSON object") from None
