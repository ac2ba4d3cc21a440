"""The commands of the conversation: `/set`, `/show`, `/load` and the like."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from headrace.cli._partner import Stated
from headrace.cli._saved import is_saved
from headrace.cli._session import Session
from headrace.engine.parameters import WHOLE, Parameters
from headrace.errors import RequestInvalid
from headrace.text.window import POLICIES, checked

PARAMETERS = tuple(field.name for field in dataclasses.fields(Parameters) if field.name != "logit_bias")

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "parameter": "NAME VALUE  change a parameter, or num_ctx; --help of run lists them",
        "system": "TEXT           what the model is told first; without TEXT nothing",
        "format": "json           ask for JSON, and say if the answer is none",
        "noformat": "               any answer",
        "context": "POLICY         when the window is full: error, shift (the oldest turns go), truncate",
        "loopguard": "               end an answer that repeats itself without end",
        "noloopguard": "               let it",
        "think": "               let the model think aloud first",
        "nothink": "               keep it from that",
        "verbose": "               print times and rates after each answer",
        "quiet": "               do not",
        "wordwrap": "               wrap lines and render Markdown",
        "nowordwrap": "               print what the model writes, as it is",
        "history": "               remember what is typed, for the next time",
        "nohistory": "               do not",
    }
)
SHOWN: Mapping[str, str] = MappingProxyType(
    {
        "info": "what the model is",
        "system": "what it is told first",
        "template": "its chat template",
        "parameters": "the parameters, and where each comes from",
    }
)
HELP = """\
/set ...        change a setting (/help set)
/show ...       show the model or a setting (/help show)
/load MODEL     another model, or a saved conversation
/save FILE      save the conversation
/clear          forget the conversation so far
/bye            leave (so does Ctrl-D)
/?, /help       this help; /help shortcuts

Use \"\"\" to begin and end a message of several lines."""
SHORTCUTS = """\
Up, Down        earlier messages
Tab             complete a command
Ctrl-G          write the message in $EDITOR
Ctrl-A, Ctrl-E  to the start, to the end of the line
Ctrl-K, Ctrl-U  delete to the end, to the start
Ctrl-W          delete the word before
Ctrl-L          clear the screen
Ctrl-C          stop an answer, or drop what is typed
Ctrl-D          leave"""


def obey(session: Session, line: str, set_history: Callable[[bool], None]) -> None:
    """Runs one command. Raises UserError where it is not understood."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    match name:
        case "/?" | "/help":
            click.echo(_help(rest))
        case "/set":
            _set(session, rest, set_history)
        case "/show":
            click.echo(_show(session, rest))
        case "/load":
            _load(session, rest)
        case "/save":
            session.save(Path(_needed(rest, "/save FILE")).expanduser())
            click.echo(f"Saved as {rest}.")
        case "/clear":
            session.clear()
            click.echo("The conversation is cleared.")
        case _:
            raise RequestInvalid(f"Unknown command {name!r}: /? lists them")


def completions() -> list[str]:
    """Every command with what can follow it, for Tab."""
    settings = [name for name in SETTINGS if name not in ("parameter", "format", "context")]
    return [
        *(f"/set {name}" for name in (*settings, "format json")),
        *(f"/set context {policy}" for policy in POLICIES),
        *(f"/set parameter {name}" for name in (*PARAMETERS, "num_ctx")),
        *(f"/show {name}" for name in SHOWN),
        *(f"/help {topic}" for topic in ("set", "show", "shortcuts")),
        *("/load", "/save", "/clear", "/bye", "/?"),
    ]


def _help(topic: str) -> str:
    match topic:
        case "":
            return HELP
        case "set":
            return "\n".join(f"/set {name:<11}{text}" for name, text in SETTINGS.items())
        case "show":
            return "\n".join(f"/show {name:<11}{text}" for name, text in SHOWN.items())
        case "shortcuts":
            return SHORTCUTS
    raise RequestInvalid(f"there is no help on {topic!r}: /help, /help set, /help show, /help shortcuts")


def _set(session: Session, rest: str, set_history: Callable[[bool], None]) -> None:
    name, _, value = rest.partition(" ")
    settings, value = session.settings, value.strip()
    if value and name not in ("parameter", "system", "format", "context"):
        raise RequestInvalid(f"/set {name} takes nothing more, but there is {value!r}")
    if why := session.model.lacks.get(name):
        raise RequestInvalid(f"/set {name}: {why}")
    match name:
        case "parameter":
            _set_parameter(session, value)
        case "system":
            settings.system = value.strip('"').strip() or None
        case "format" | "noformat":
            if name == "format" and value != "json":
                raise RequestInvalid(f"/set format is {value!r} but should be json")
            settings.format = "json" if name == "format" else None
        case "context":
            settings.context = checked(value)
        case "loopguard" | "noloopguard":
            settings.loop_guard = name == "loopguard"
        case "think" | "nothink":
            if name == "think" and not session.model.can_think:
                raise RequestInvalid(f"{session.name} cannot think aloud: its vocabulary has no tokens for it")
            settings.think = settings.show_thinking = name == "think"
        case "verbose" | "quiet":
            settings.verbose = name == "verbose"
        case "wordwrap" | "nowordwrap":
            settings.wordwrap = name == "wordwrap"
        case "history" | "nohistory":
            set_history(name == "history")
        case _:
            raise RequestInvalid(f"there is no setting {name!r}: /help set lists them")
    click.echo(f"Set {rest.splitlines()[0]}." if rest else "")


def _set_parameter(session: Session, text: str) -> None:
    name, *values = text.split() or [""]
    if not values:
        raise RequestInvalid("a parameter needs a name and a value: /set parameter temperature 0.5")
    if name == "num_ctx":
        session.resize(_number(name, values[0], whole=True))
        return
    value = values if name == "stop" else _number(name, values[0], whole=name in WHOLE)
    session.model.check(**{name: value})
    session.settings.parameters[name] = value


def _number(name: str, text: str, *, whole: bool) -> Any:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise RequestInvalid(f"{name} is {text!r} but should be a {'whole ' if whole else ''}number") from None


def _show(session: Session, what: str) -> str:
    match what:
        case "info":
            return session.model.info()
        case "system":
            return session.settings.system or "(no system prompt)"
        case "template":
            return session.model.template()
        case "parameters":
            return _parameters(session)
    raise RequestInvalid(f"/show needs one of {', '.join(SHOWN)}")


def _parameters(session: Session) -> str:
    """Every parameter, its value, and who says so."""
    given = {name: Stated(value, "you") for name, value in session.settings.parameters.items()}
    known = {**session.model.parameters(), **given}
    rows = {"num_ctx": str(session.model.num_ctx or "the server's")}
    rows |= {name: f"{_shown(value)}  ({origin})" for name, (value, origin) in known.items()}
    return "\n".join(f"{name:<20}{row}" for name, row in rows.items())


def _shown(value: Any) -> str:
    if value is None:
        return "drawn"
    if isinstance(value, tuple | list):
        return repr(list(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _load(session: Session, name: str) -> None:
    path = Path(_needed(name, "/load MODEL")).expanduser()
    if is_saved(path):
        session.restore(path)
        click.echo(f"Went back to the conversation of {len(session.messages)} messages with {session.name}.")
        return
    session.switch(name)
    click.echo(f"Loaded {name}.")


def _needed(value: str, usage: str) -> str:
    if not value:
        raise RequestInvalid(f"something is missing: {usage}")
    return value
