"""The conversation loop of `headrace run`."""

from __future__ import annotations

from pathlib import Path

import click
from platformdirs import user_state_dir
from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from headrace.cli._session import Session
from headrace.errors import UserError

HELP = """\
/clear    forget the conversation so far
/bye      leave (so does Ctrl-D)
/?        this help

Ctrl-C stops an answer and keeps the conversation; the arrow keys bring earlier messages back."""


def converse(session: Session) -> None:
    """Reads messages and answers them until /bye or the end of input."""
    prompt: PromptSession[str] = PromptSession(">>> ", history=_history(), placeholder=PLACEHOLDER)
    while True:
        try:
            line = prompt.prompt().strip()
        except KeyboardInterrupt:
            click.echo("Use Ctrl-D or /bye to leave.")
            continue
        except EOFError:
            return
        if line == "/bye":
            return
        if line:
            _obey(session, line)


PLACEHOLDER = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")


def _obey(session: Session, line: str) -> None:
    match line:
        case "/?" | "/help":
            click.echo(HELP)
        case "/clear":
            session.clear()
            click.echo("The conversation is cleared.")
        case _ if line.startswith("/"):
            click.echo(f"Unknown command {line.split()[0]!r}: /? lists them.")
        case _:
            _answer(session, line)


def _answer(session: Session, line: str) -> None:
    try:
        session.answer(line)
    except KeyboardInterrupt:
        click.echo("(stopped)", err=True)
    except UserError as error:
        click.echo(f"Error: {error}", err=True)


def _history() -> History:
    """Kept between conversations, unless the folder for it cannot be written."""
    try:
        folder = Path(user_state_dir("headrace"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history").touch()
        return FileHistory(str(folder / "history"))
    except OSError:
        return InMemoryHistory()
