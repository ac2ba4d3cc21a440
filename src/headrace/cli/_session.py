"""A conversation as a terminal shows it: the answer on stdout as it grows, everything about it on stderr."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import click

from headrace.errors import HeadraceError
from headrace.events import Done, Event, Text, Thinking, ToolCall, ToolResult
from headrace.machine import peak_memory_bytes
from headrace.model import Model
from headrace.transcript import Transcript


@dataclass(slots=True)
class Session:
    """A model, what it is offered, and the conversation so far."""

    model: Model
    tools: Literal["builtin"] | None
    parameters: dict[str, Any]
    verbose: bool
    load_s: float
    messages: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, question: str) -> None:
        """Asks, shows the answer, and keeps both. Ctrl-C (KeyboardInterrupt) keeps what was said until then."""
        self.messages.append({"role": "user", "content": question})
        events = self.model.chat(self.messages, tools=self.tools, run_tools=True, **self.parameters)
        said, before = Transcript(self.messages), len(self.messages)
        try:
            for event in events:
                said.add(event)
                self._show(event)
        except HeadraceError:
            del self.messages[before - 1 :]  # what could not be answered was not said
            raise
        click.echo()

    def clear(self) -> None:
        self.messages.clear()

    def _show(self, event: Event) -> None:
        match event:
            case Text(text):
                click.echo(text, nl=False)
            case Thinking(text):
                click.secho(text, nl=False, dim=True, err=True)
            case ToolCall(name=name, arguments=arguments):
                click.secho(f"→ {name}({_arguments(arguments)})", dim=True, err=True)
            case ToolResult(content=content):
                click.secho(f"← {content}", dim=True, err=True)
            case Done(reason="length") if self.parameters.get("num_predict") is None:
                click.secho(f"\n(the context window of {self.model.num_ctx} tokens is full)", err=True)
                self._report(event)
            case Done():
                self._report(event)

    def _report(self, done: Done) -> None:
        if not self.verbose:
            return
        usage, timings = done.usage, done.timings
        rows = {
            "load time": f"{self.load_s:.3f} s",
            "time to first token": f"{timings.first_token_s:.3f} s",
            "prompt": _rate(usage.prompt_tokens, timings.prompt_s),
            "decode": _rate(usage.completion_tokens, timings.decode_s),
            "peak memory": f"{peak_memory_bytes() / 2**20:,.0f} MiB",
        }
        click.echo("\n\n" + "\n".join(f"{name + ':':22}{value}" for name, value in rows.items()), err=True, nl=False)


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())


def _rate(tokens: int, seconds: float) -> str:
    rate = f", {tokens / seconds:,.1f} tokens/s" if seconds > 0 else ""
    return f"{tokens} tokens{rate}"
