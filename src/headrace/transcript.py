"""An answer, event by event, as the turns that the next prompt holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.events import Event, Text, ToolCall, ToolResult


@dataclass(slots=True)
class Transcript:
    """`messages` grows by the turns of an answer: what was said and called, then what each tool gave back."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: Event) -> None:
        match event:
            case Text(text):
                self._assistant()["content"] += text
            case ToolCall(id=id_, name=name, arguments=arguments):
                function = {"name": name, "arguments": arguments}
                call = {"id": id_, "type": "function", "function": function}
                self._assistant().setdefault("tool_calls", []).append(call)
            case ToolResult(id=id_, name=name, content=content):
                turn = {"role": "tool", "tool_call_id": id_, "name": name, "content": content}
                self.messages.append(turn)

    def _assistant(self) -> dict[str, Any]:
        """The assistant's turn that is being said; after a tool's turn a new one begins."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]
