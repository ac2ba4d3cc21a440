"""A conversation as a terminal holds it: what is asked and answered, and the settings that a user may change."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

from headrace import nano
from headrace.cli import _saved
from headrace.cli._attached import joined
from headrace.cli._display import Screen, display_for_stdout, unechoed
from headrace.cli._form import JSON, instruction, is_schema
from headrace.cli._partner import Partner, Runtime
from headrace.cli._recorder import Circumstances, Course, Recorder
from headrace.cli._saved import Conversation
from headrace.cli._tools import Consent
from headrace.errors import HeadraceError
from headrace.events import Done, Dropped
from headrace.text.window import Policy
from headrace.tools.builtin import BUILTIN
from headrace.tools.schema import Function
from headrace.transcript import Transcript

Builtin = Literal["builtin"] | None
LATEST = ":latest"  # what Ollama's names may end in


@dataclass(slots=True)
class Settings:
    """What flags and `/set` change."""

    system: str | None = None
    format: Any = None  # as Model.chat takes it
    tool_choice: str | None = None
    think: bool | None = None
    show_thinking: bool = True
    verbose: bool = False
    wordwrap: bool = True
    keep_alive_s: float = 0.0
    context: Policy = "error"
    loop_guard: bool = True
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """A model by the name it was asked for, what it is offered, and the conversation so far."""

    name: str
    model: Partner
    settings: Settings
    tools: Builtin
    runtime: Runtime
    functions: tuple[Function, ...] = ()  # the user's own tools
    consent: Consent = field(default_factory=lambda: Consent(trusted=False))
    messages: list[dict[str, Any]] = field(default_factory=list)
    attached: str = ""  # goes before the next question
    recorder: Recorder | None = None
    parked: dict[str, tuple[Partner, threading.Timer]] = field(default_factory=dict)  # models kept for a while

    @classmethod
    def open(
        cls,
        name: str,
        settings: Settings,
        tools: str | None,
        runtime: Runtime,
        num_ctx: int | None = None,
        functions: tuple[Function, ...] = (),
        trusted: bool = False,
    ) -> Session:
        """Loads the model."""
        model, builtin = runtime.load(name, num_ctx), offered(tools, name, settings)
        session = cls(name, model, settings, builtin, runtime, functions, Consent(trusted))
        try:
            session.model.begin(*session.beginning())
        except BaseException:
            session.close()
            raise
        return session

    def answer(self, question: str) -> bool:
        """Asks, shows the answer, and keeps both. False: the answer is not what --format or --grammar asks for.

        Ctrl-C (KeyboardInterrupt) ends the answer and keeps what was said until then.
        """
        before, course = len(self.messages), Course(question)
        self.messages.append({"role": "user", "content": joined(self.attached, question)})
        said, settings = Transcript(self.messages), self.settings
        screen = Screen(display_for_stdout(settings.wordwrap and settings.format is None), settings.show_thinking)
        try:
            events = self.model.chat(
                self._prompted(),
                run_tools=True,
                context=settings.context,
                loop_guard=settings.loop_guard,
                **self._offer(),
                **settings.parameters,
            )
            with unechoed():
                for event in events:
                    course.hear(event, self.messages)
                    said.add(event)
                    screen.show(event)
        except HeadraceError:
            del self.messages[before:]  # what could not be answered was not said
            raise
        except KeyboardInterrupt:
            self._drop_unanswered(before)
            self._keep(before, course)
            raise
        finally:
            screen.end()
        self._keep(before, course)
        self._report(course.done)
        return self._in_form(course.done)

    def clear(self) -> None:
        self.messages, self.attached = [], ""
        if self.recorder:
            self.recorder.begin_anew()

    def switch(self, name: str) -> None:
        """Another model, for a new conversation; the former is kept for as long as --keep-alive says."""
        if name != self.name:
            model = self._unpark(name) or self.runtime.load(name)
            self._park()
            self.name, self.model = name, model
            self.tools = "builtin" if _is_nano(name) else None
        self.clear()

    def resize(self, num_ctx: int) -> None:
        """The same model with another window; the conversation stays."""
        model = self.runtime.load(self.name, num_ctx)
        self.model.close()
        self.model = model
        self.model.begin(*self.beginning())

    def beginning(self) -> tuple[list[dict[str, Any]], Any, bool | None]:
        """What its prompts begin with, up to the first question: the system turn, the tools, whether to think."""
        return self._system(), self._offer()["tools"], self.settings.think

    def close(self) -> None:
        for name in list(self.parked):
            self._forget(name)
        self.model.close()

    def save(self, path: Path) -> None:
        """Raises RequestInvalid."""
        settings = self.settings
        _saved.write(path, Conversation(self.name, self.tools, settings.system, settings.parameters, self.messages))

    def restore(self, path: Path) -> None:
        """Goes on with what `save` wrote. Raises FileInvalid, or what `load` raises, and then nothing has changed."""
        saved = _saved.read(path)
        if saved.model != self.name:
            self.switch(saved.model)
        self.clear()
        self.tools, self.messages = saved.tools, saved.messages
        self.settings.system, self.settings.parameters = saved.system, saved.parameters

    def _keep(self, before: int, course: Course) -> None:
        """What was said stays: it goes into the log, and the files are not put before the next question again."""
        if len(self.messages) == before:
            return
        self.attached = ""
        if self.recorder:
            settings, server = self.settings, self.runtime.server
            of = Circumstances(
                self.runtime.lasting_name(self.name), server, settings.system, self.tools, settings.parameters
            )
            self.recorder.record(self.messages, course, of)

    def _prompted(self) -> list[dict[str, Any]]:
        """The conversation after its system turn."""
        return [*self._system(), *self.messages]

    def _system(self) -> list[dict[str, Any]]:
        """The system turn, if there is one."""
        parts = [self.settings.system, instruction(self.settings.format)]
        system = "\n".join(part for part in parts if part)
        return [{"role": "system", "content": system}] if system else []

    def _offer(self) -> dict[str, Any]:
        """The tools, and the form that is asked of the answer, as far as anything is asked."""
        settings, offer = self.settings, dict[str, Any](tools=self.tools)
        if self.functions:
            offer = {"tools": [*(BUILTIN if self.tools else ()), *self.functions], "approve": self.consent}
        form = {"format": settings.format, "tool_choice": settings.tool_choice, "think": settings.think}
        return offer | {name: value for name, value in form.items() if value is not None}

    def _drop_unanswered(self, before: int) -> None:
        """After an interruption: calls without their results, and a question of which nothing was answered."""
        last = self.messages[-1]
        if last["role"] == "assistant":
            last.pop("tool_calls", None)
            if not last["content"]:
                self.messages.pop()
        if len(self.messages) == before + 1:
            self.messages.pop()

    def _in_form(self, done: Done | None) -> bool:
        """Whether the answer is what was asked for: a limit may cut it before it is complete."""
        form = self.settings.format
        if form == JSON or is_schema(form):
            last = self.messages[-1]
            try:
                json.loads(last["content"] if last["role"] == "assistant" else "")
            except ValueError:
                click.secho("Warning: the answer is not JSON", err=True)
                return False
        elif form is not None and done and done.reason in ("length", "repetition"):
            click.secho("Warning: the answer was cut before its grammar was complete", err=True)
            return False
        return True

    def _report(self, done: Done | None) -> None:
        if done is None:
            return
        if done.reason == "length" and self.settings.parameters.get("num_predict") is None:
            click.secho(f"({_window(self.model.num_ctx)} is full)", err=True)
        if done.reason == "repetition":
            remedy = "" if "noloopguard" in self.model.lacks else ": --no-loop-guard lets it go on"
            click.secho(f"(ended, since the answer repeats itself{remedy})", dim=True, err=True)
        if done.dropped:
            click.secho(_left_out(done.dropped, self.model.num_ctx), dim=True, err=True)
        if self.settings.verbose:
            click.echo("\n".join(self._figures(done)), err=True)

    def _figures(self, done: Done) -> list[str]:
        usage, timings = done.usage, done.timings
        rows = {
            "load time": f"{self.model.load_s:.3f} s",
            "time to first token": f"{timings.first_token_s:.3f} s",
            "prompt": _rate(usage.prompt_tokens - usage.cached_tokens, timings.prompt_s),
            **({"cached": f"{usage.cached_tokens} tokens more of the prompt"} if usage.cached_tokens else {}),
            "decode": _rate(usage.completion_tokens, timings.decode_s),
            **({"forced": f"{usage.forced_tokens} tokens of these"} if usage.forced_tokens else {}),
            **self.model.figures(),
        }
        return ["", *(f"{name + ':':22}{value}" for name, value in rows.items())]

    def _park(self) -> None:
        """Leaves the model, which closes when its time has passed, or at the end of the session."""
        patience_s = self.settings.keep_alive_s
        if not patience_s:
            self.model.close()
            return
        timer = threading.Timer(min(patience_s, threading.TIMEOUT_MAX), self._forget, [self.name])
        timer.daemon = True
        self.parked[self.name] = self.model, timer
        timer.start()

    def _unpark(self, name: str) -> Partner | None:
        model, timer = self.parked.pop(name, (None, None))
        if timer:
            timer.cancel()
        return model

    def _forget(self, name: str) -> None:
        if model := self._unpark(name):
            model.close()


def offered(tools: str | None, name: str, settings: Settings) -> Builtin:
    """Built-in tools are offered where asked for, and to nano where nothing is said of tools or of the answer's form,
    which a call would be none of."""
    return "builtin" if tools == "builtin" or (tools is None and _is_nano(name) and settings.format is None) else None


def _is_nano(name: str) -> bool:
    return name.removesuffix(LATEST) == nano.NAME


def _left_out(dropped: Dropped, num_ctx: int | None) -> str:
    messages = f"{dropped.messages} message{'s' * (dropped.messages != 1)}, " if dropped.messages else ""
    return f"(left out to fit {_window(num_ctx)}: {messages}{dropped.tokens} tokens)"


def _window(num_ctx: int | None) -> str:
    return "the context window" + ("" if num_ctx is None else f" of {num_ctx} tokens")


def _rate(tokens: int, seconds: float) -> str:
    rate = f", {tokens / seconds:,.1f} tokens/s" if seconds > 0 else ""
    return f"{tokens} tokens{rate}"
