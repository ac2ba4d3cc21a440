"""A conversation as a terminal holds it: what is asked and answered, and the settings that a user may change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from headrace import nano
from headrace.cli._display import Screen, display_for_stdout, unechoed
from headrace.errors import FileInvalid, HeadraceError, RequestInvalid
from headrace.events import Done
from headrace.machine import peak_memory_bytes
from headrace.model import Model, load
from headrace.transcript import Transcript

SAVED_VERSION = 1
JSON_INSTRUCTION = "Answer with JSON only."


@dataclass(slots=True)
class Settings:
    """What flags and `/set` change."""

    system: str | None = None
    json_only: bool = False
    show_thinking: bool = True
    verbose: bool = False
    wordwrap: bool = True
    keep_alive_s: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """A model by the name it was asked for, what it is offered, and the conversation so far."""

    name: str
    model: Model
    settings: Settings
    tools: Literal["builtin"] | None
    load_s: float
    messages: list[dict[str, Any]] = field(default_factory=list)
    parked: dict[str, tuple[Model, float]] = field(default_factory=dict)  # models kept for a while -> until when

    @classmethod
    def open(
        cls, name: str, settings: Settings, tools: str | None, num_ctx: int | None, threads: int | None
    ) -> Session:
        """Loads the model. Built-in tools are offered where asked for, and to nano where nothing is said."""
        began = time.perf_counter()
        model = load(name, num_ctx=num_ctx, threads=threads)
        offered = tools == "builtin" or (tools is None and name == nano.NAME)
        return cls(name, model, settings, "builtin" if offered else None, time.perf_counter() - began)

    def answer(self, question: str) -> bool:
        """Asks, shows the answer, and keeps both. False: the answer should have been JSON, and is not.

        Ctrl-C (KeyboardInterrupt) ends the answer and keeps what was said until then.
        """
        before = len(self.messages)
        self.messages.append({"role": "user", "content": question})
        said, settings = Transcript(self.messages), self.settings
        screen = Screen(display_for_stdout(settings.wordwrap and not settings.json_only), settings.show_thinking)
        done: Done | None = None
        try:
            events = self.model.chat(self._prompted(), tools=self.tools, run_tools=True, **settings.parameters)
            with unechoed():
                for event in events:
                    said.add(event)
                    screen.show(event)
                    done = event if isinstance(event, Done) else done
        except HeadraceError:
            del self.messages[before:]  # what could not be answered was not said
            raise
        except KeyboardInterrupt:
            self._drop_unanswered(before)
            raise
        finally:
            screen.end()
        self._report(done)
        return not settings.json_only or self._is_json()

    def clear(self) -> None:
        self.messages.clear()

    def switch(self, name: str) -> None:
        """Another model, for a new conversation; the former is kept for as long as --keep-alive says."""
        self._close_expired()
        kept = self.parked.pop(name, None)
        model = kept[0] if kept else load(name, threads=self.model.threads)
        if self.settings.keep_alive_s:
            self.parked[self.name] = (self.model, time.monotonic() + self.settings.keep_alive_s)
        else:
            self.model.close()
        self.name, self.model = name, model
        self.tools = "builtin" if name == nano.NAME else None
        self.clear()

    def resize(self, num_ctx: int) -> None:
        """The same model with another window; the conversation stays."""
        model = load(self.name, num_ctx=num_ctx, threads=self.model.threads)
        self.model.close()
        self.model = model

    def close(self) -> None:
        for model, _ in self.parked.values():
            model.close()
        self.model.close()

    def save(self, path: Path) -> None:
        saved = {
            "headrace": SAVED_VERSION,
            "model": self.name,
            "tools": self.tools,
            "system": self.settings.system,
            "parameters": self.settings.parameters,
            "messages": self.messages,
        }
        try:
            path.write_text(json.dumps(saved, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise RequestInvalid(f"{path} cannot be written ({error.strerror})") from None

    def restore(self, path: Path) -> None:
        """Goes on with what `save` wrote. Raises FileInvalid, and then nothing has changed."""
        saved = _read_saved(path)
        self.model.checkpoint.defaults.parameters.override(**saved["parameters"])
        if saved["model"] != self.name:
            self.switch(saved["model"])
        self.tools = saved["tools"]
        self.messages = saved["messages"]
        self.settings.system, self.settings.parameters = saved["system"], saved["parameters"]

    def _prompted(self) -> list[dict[str, Any]]:
        """The conversation after its system turn."""
        parts = [self.settings.system, JSON_INSTRUCTION if self.settings.json_only else None]
        system = "\n".join(part for part in parts if part)
        return [{"role": "system", "content": system}, *self.messages] if system else list(self.messages)

    def _drop_unanswered(self, before: int) -> None:
        """After an interruption: calls without their results, and a question of which nothing was answered."""
        last = self.messages[-1]
        if last["role"] == "assistant":
            last.pop("tool_calls", None)
            if not last["content"]:
                self.messages.pop()
        if len(self.messages) == before + 1:
            self.messages.pop()

    def _is_json(self) -> bool:
        last = self.messages[-1]
        try:
            json.loads(last["content"] if last["role"] == "assistant" else "")
        except ValueError:
            click.secho("Warning: the answer is not JSON", err=True)
            return False
        return True

    def _report(self, done: Done | None) -> None:
        if done is None:
            return
        if done.reason == "length" and self.settings.parameters.get("num_predict") is None:
            click.secho(f"(the context window of {self.model.num_ctx} tokens is full)", err=True)
        if self.settings.verbose:
            click.echo("\n".join(self._figures(done)), err=True)

    def _figures(self, done: Done) -> list[str]:
        usage, timings = done.usage, done.timings
        rows = {
            "load time": f"{self.load_s:.3f} s",
            "time to first token": f"{timings.first_token_s:.3f} s",
            "prompt": _rate(usage.prompt_tokens, timings.prompt_s),
            "decode": _rate(usage.completion_tokens, timings.decode_s),
            "peak memory": f"{peak_memory_bytes() / 2**20:,.0f} MiB",
        }
        return ["", *(f"{name + ':':22}{value}" for name, value in rows.items())]

    def _close_expired(self) -> None:
        for name, (model, until) in list(self.parked.items()):
            if time.monotonic() > until:
                model.close()
                del self.parked[name]


def is_saved(path: Path) -> bool:
    """Whether `save` wrote this file, by its beginning."""
    try:
        with path.open("rb") as file:
            return b'"headrace"' in file.read(64)
    except OSError:
        return False


def _read_saved(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise FileInvalid(path, "this is no saved conversation: it is not JSON") from None
    match saved:
        case {
            "headrace": 1,
            "model": str(),
            "tools": None | "builtin",
            "system": None | str(),
            "parameters": dict(),
            "messages": list(messages),
        } if all(isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in messages):
            return dict(saved)
    raise FileInvalid(path, "this is no conversation saved by this version of Headrace")


def _rate(tokens: int, seconds: float) -> str:
    rate = f", {tokens / seconds:,.1f} tokens/s" if seconds > 0 else ""
    return f"{tokens} tokens{rate}"
