"""The conversation of `headrace run`: reads a message or a command, and again."""

from __future__ import annotations

from pathlib import Path

import click
from platformdirs import user_state_dir
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, NestedCompleter, PathCompleter, WordCompleter, merge_completers
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from headrace.cli._advice import of_conversation
from headrace.cli._commands import completions, obey
from headrace.cli._session import Session
from headrace.errors import HeadraceError

PROMPT, CONTINUED, QUOTES = ">>> ", "... ", '"""'
PLACEHOLDER = HTML("<ansibrightblack>Send a message (/? for help)</ansibrightblack>")


def converse(session: Session) -> None:
    """Reads and answers until /bye or the end of input."""
    reader = Reader()
    while (typed := reader.read()) is not None:
        text, command = typed
        if text in ("/bye", "/exit"):
            return
        try:
            if command:
                obey(session, text, reader.set_history)
            elif text:
                session.answer(text)
                click.echo()
        except KeyboardInterrupt:
            click.echo("(stopped)", err=True)
        except HeadraceError as error:
            click.echo(f"Error: {of_conversation(error)}", err=True)


class Reader:
    """The line editor: history, completion, several lines between triple quotes, Ctrl-G for an editor."""

    def __init__(self) -> None:
        self._editor = _editor(_history())

    def set_history(self, on: bool) -> None:
        self._editor = _editor(_history() if on else InMemoryHistory())

    def read(self) -> tuple[str, bool] | None:
        """A message or a command without space around it, and whether it is a command; None at the end of input."""
        while True:
            try:
                text = self._message()
                return text.strip(), text.startswith("/")
            except KeyboardInterrupt:
                if not self._editor.default_buffer.text:
                    click.echo("Use Ctrl-D or /bye to leave.")
            except EOFError:
                return None

    def _message(self) -> str:
        """One line, or all that stands between quotes, which a message or a system prompt may begin with."""
        text = self._editor.prompt(PROMPT, placeholder=PLACEHOLDER).lstrip()
        if not text.startswith((QUOTES, f"/set system {QUOTES}")):
            return text
        while text.count(QUOTES) < 2:
            text += "\n" + self._editor.prompt(CONTINUED, placeholder="")
        before, _, rest = text.partition(QUOTES)
        inside, _, after = rest.rpartition(QUOTES)
        return (before or "\n") + inside.strip("\n") + after  # after a new line, "/" begins no command


def _editor(history: History) -> PromptSession[str]:
    return PromptSession(
        history=history,
        completer=_completer(),
        complete_while_typing=False,
        key_bindings=_keys(),
        tempfile_suffix=".txt",
    )


def _completer() -> Completer:
    """Commands and what follows them; names of files where a file is meant."""
    files = PathCompleter(expanduser=True)
    names = NestedCompleter({"/load": files, "/save": files})
    return merge_completers([WordCompleter(completions(), sentence=True), names], deduplicate=True)


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
