"""From a conversation in a terminal to the log of conversations, and back."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from headrace.cli import _saved
from headrace.cli._log import Log, Summary, Turn, check_name
from headrace.cli._saved import Conversation
from headrace.errors import FileInvalid, RequestInvalid
from headrace.events import Done, Event, Thinking

Messages = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Course:
    """A turn while it goes on: what the events tell beside its messages."""

    question: str
    asked_at: float = field(default_factory=time.time)
    done: Done | None = None
    thoughts: dict[int, str] = field(default_factory=dict)  # by the place of the message that they lead to
    _began_s: float = field(default_factory=time.perf_counter)

    def hear(self, event: Event, messages: Messages) -> None:
        match event:
            case Thinking(text):
                place = len(messages) - (messages[-1]["role"] == "assistant")
                self.thoughts[place] = self.thoughts.get(place, "") + text
            case Done():
                self.done = event

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self._began_s


class Circumstances(NamedTuple):
    """Who answers, and under which settings."""

    model: str
    server: str | None
    system: str | None
    tools: str | None
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class Recorder:
    """Adds the turns of a session to the log as they end. What goes wrong with that is said once, and ends nothing:
    the next turn tries again, with all that is missing."""

    log: Log
    id: int | None = None  # of the conversation, once it is in the log
    name: str | None = None
    recorded: int = 0  # messages of the session that are in the log
    _title: str = ""
    _anew: bool = False
    _warned: bool = False

    def begin_anew(self) -> None:
        """The next turn is the first of another conversation, which takes over the name."""
        self.id, self.recorded, self._title, self._anew = None, 0, "", True

    def record(self, messages: Messages, course: Course, of: Circumstances) -> None:
        """What has been said since the last turn."""
        self._title = self._title or course.question or str(messages[self.recorded]["content"])
        try:
            self.id = self.log.add(self._turn(messages, course, of), self._title, self.id, self.name, anew=self._anew)
        except FileInvalid as error:
            if not self._warned:
                click.secho(f"Warning: this conversation is not kept: {error}", err=True)
            self._warned = True
        else:
            self.recorded, self._anew = len(messages), False

    def _turn(self, messages: Messages, course: Course, of: Circumstances) -> Turn:
        done = course.done
        new = [dict(message) for message in messages[self.recorded :]]
        for place, thought in course.thoughts.items():
            if self.recorded <= place < len(messages):
                new[place - self.recorded]["thinking"] = thought
        return Turn(
            course.asked_at,
            of.model,
            of.server,
            of.system,
            of.tools,
            dict(of.parameters),
            new,
            done.reason if done else "interrupted",
            done.usage if done else None,
            done.timings if done else None,
            course.total_s,
        )


class Past(NamedTuple):
    """A conversation to go on with, as the log has it."""

    summary: Summary
    conversation: Conversation


def begin(latest: bool, name: str | None, no_log: bool) -> tuple[Recorder | None, Past | None]:
    """Who records a session, and what it goes on with: the `latest` conversation, or that of a name or id.

    Raises RequestInvalid, and FileInvalid where there is something to go on with that cannot be read.
    """
    if latest and name is not None:
        raise RequestInvalid(
            "--continue goes on with the last conversation, --session with a named one: give one of them"
        )
    log = Log.of_user()
    past = _last(log) if latest else None if name is None else _named(log, name)
    if no_log and name is not None and not past:
        raise RequestInvalid("--session keeps a conversation, and --no-log keeps none: give one of them")
    if no_log:
        return None, past
    if past:
        return Recorder(log, past.summary.id, past.summary.name, len(past.conversation.messages)), past
    return Recorder(log, name=name), None


def words(
    model: str | None, prompt: str | None, past: Past | None, server: str | None, key: str | None
) -> tuple[str | None, str | None]:
    """MODEL and PROMPT where MODEL may be left out: a single argument that names no model is the prompt.

    A word that could be the name of a model which is not here is one; but not where a conversation goes on, and the
    word is a bare one. `server` is where models are looked for, if not here.
    """
    if model is None or prompt is not None:
        return model, prompt
    one_word = not re.search(r"\s", model)
    if (one_word and (not past or re.search("[:/]", model))) or _names_a_model(model, server, key):
        return model, None
    return None, model


def _names_a_model(name: str, server: str | None, key: str | None) -> bool:
    if server is None:
        from headrace.library import opening  # and the libraries of an engine, which whoever asks a server does without

        return opening.exists(name)
    from headrace.connection import Server, same_name

    with closing(Server(server, key)) as asked:
        return same_name(name, asked.names()) is not None


def told(past: Past) -> str:
    """Which conversation it is, for people."""
    name, turns = past.summary.name or past.summary.id, past.summary.turn_count
    return (
        f"conversation {name} of {turns} turn{'s' * (turns != 1)} with {past.conversation.model}: {past.summary.title}"
    )


def _last(log: Log) -> Past:
    found = log.summaries(limit=1)
    if not found:
        raise RequestInvalid("there is no conversation to go on with: `headrace run` begins one")
    return _past(log, found[0])


def _named(log: Log, name: str) -> Past | None:
    """None for a name that no conversation has yet."""
    if name.isdecimal():
        return _past(log, log.find(name))
    check_name(name)
    return next((_past(log, one) for one in log.summaries() if one.name == name), None)


def _past(log: Log, summary: Summary) -> Past:
    turns = log.turns(summary.id)
    if not turns:
        raise RequestInvalid(f"the conversation {summary.id} was deleted a moment ago")
    latest = turns[-1]
    messages = [_said(message) for turn in turns for message in turn.messages]
    tools: Any = latest.tools
    conversation = Conversation(latest.model, tools, latest.system, latest.parameters, messages)
    try:
        return Past(summary, _saved.check(conversation))
    except RequestInvalid as error:
        raise FileInvalid(log.path, f"the conversation {summary.id} is damaged: {error}") from None


def _said(message: Mapping[str, Any]) -> dict[str, Any]:
    """As the next prompt has it: what was thought is not told again."""
    return {name: value for name, value in message.items() if name != "thinking"}
