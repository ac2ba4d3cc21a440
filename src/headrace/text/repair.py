"""Earlier tool calls, written into the text of their turns: the family's templates drop the `tool_calls` of a message.

Without this a model does not see that it called a tool, and takes the result that follows for the user's words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import RequestInvalid
from headrace.text.calls import CALL_END, CALL_START, format_call
from headrace.text.template import Template

Message = Mapping[str, Any]


def write_calls(messages: Sequence[Message], template: Template) -> list[Message]:
    """The same messages, calls as the model writes them: before its prose in the LFM2 dialect, after it in LFM2.5's."""
    calls_first = "<|tool_list_start|>" in template.source
    return [_written(message, calls_first) for message in messages]


def _written(message: Message, calls_first: bool) -> Message:
    if not (isinstance(message, Mapping) and message.get("role") == "assistant" and message.get("tool_calls")):
        return message
    block = f"{CALL_START}[{', '.join(map(_call, message['tool_calls']))}]{CALL_END}"
    prose = message.get("content") or ""
    if not isinstance(prose, str):
        raise RequestInvalid("an assistant message with tool_calls should have text, or nothing, as its content")
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return rest | {"content": block + prose if calls_first else prose + block}


def _call(call: Any) -> str:
    """From an OpenAI tool call, whose arguments may be an object or its JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    match function:
        case {"name": str(name), **rest}:
            arguments: Any = rest.get("arguments") or {}
        case _:
            raise RequestInvalid('a tool call should look like {"function": {"name": ..., "arguments": {...}}}')
    try:
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        return format_call(name, dict(arguments))
    except (TypeError, ValueError):
        raise RequestInvalid(f"the arguments of the tool call {name!r} should be a JSON object") from None
