"""The conversation of `headrace run`: reads a message or a command, and again."""

from __future__ import annotations

from pathlib import Path

import click
from platformdirs import user_state_dir
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from headrace.cli._commands import completions, obey
from headrace.cli._session import Session
from headrace.errors import HeadraceError

PROMPT, CONTINUED, QUOTES = ">>> ", "... ", '"""'
PLACEHOLDER = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")


def converse(session: Session) -> None:
    """Reads and answers until /bye or the end of input."""
    reader = Reader()
    while (line := reader.read()) is not None:
        if line in ("/bye", "/exit"):
            return
        try:
            if line.startswith("/") and "\n" not in line.split(" ")[0]:
                obey(session, line, reader.set_history)
            elif line:
                session.answer(line)
        except KeyboardInterrupt:
            click.echo("(stopped)", err=True)
        except HeadraceError as error:
            click.echo(f"Error: {error}", err=True)


class Reader:
    """The line editor: history, completion, several lines between triple quotes, Ctrl-G for an editor."""

    def __init__(self) -> None:
        self._editor = _editor(_history())

    def set_history(self, on: bool) -> None:
        self._editor = _editor(_history() if on else InMemoryHistory())

    def read(self) -> str | None:
        """A message or command without space around it; None at the end of input."""
        while True:
            try:
                return self._message().strip()
            except KeyboardInterrupt:
                click.echo("Use Ctrl-D or /bye to leave.")
            except EOFError:
                return None

    def _message(self) -> str:
        """One line, or all lines until the quotes that it opens are closed."""
        text = self._editor.prompt(PROMPT, placeholder=PLACEHOLDER)
        if text.count(QUOTES) % 2 == 0:
            return text.strip().removeprefix(QUOTES).removesuffix(QUOTES) if text.strip().startswith(QUOTES) else text
        while text.count(QUOTES) % 2:
            text += "\n" + self._editor.prompt(CONTINUED, placeholder="")
        before, _, rest = text.partition(QUOTES)
        return before + rest.rpartition(QUOTES)[0].strip("\n")


def _editor(history: History) -> PromptSession[str]:
    return PromptSession(
        history=history,
        completer=WordCompleter(completions(), sentence=True),
        complete_while_typing=False,
        key_bindings=_keys(),
        tempfile_suffix=".txt",
    )


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("c-g")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor(validate_and_handle=False)

    return keys


def _history() -> History:
    """Kept between conversations, unless the folder for it cannot be written."""
    try:
        folder = Path(user_state_dir("headrace"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history").touch(mode=0o600)
        return FileHistory(str(folder / "history"))
    except OSError:
        return InMemoryHistory()
