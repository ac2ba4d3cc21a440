"""`headrace log`: the conversations that are kept on this machine."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from headrace.cli._display import call_text, display_for_stdout
from headrace.cli._table import table
from headrace.errors import RequestInvalid

if TYPE_CHECKING:
    from headrace.cli._log import Log, Summary, Turn

COLUMNS: Final = ("ID", "NAME", "WHEN", "MODEL", "TURNS", "FIRST WORDS")
TITLE_WIDTH: Final = 50
FENCE: Final = 3


@click.command("log", short_help="List, print, search or delete past conversations.")
@click.argument("words", nargs=-1, metavar="[ID|NAME | rm ID|NAME...]")
@click.option("-n", "--number", type=click.IntRange(0), default=20, show_default=True, help="List so many; 0 is all.")
@click.option("--search", metavar="TEXT", help="List those with TEXT somewhere in them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--clear", is_flag=True, help="Delete all of them.")
@click.option("--yes", is_flag=True, help="Do not ask before that.")
@click.option("--plain", is_flag=True, help="Print Markdown as it is on a terminal, too.")
def command(
    words: tuple[str, ...], number: int, search: str | None, as_json: bool, clear: bool, yes: bool, plain: bool
) -> None:
    """List the conversations of `headrace run`, print the one with this ID or NAME as Markdown, or delete some (rm).

    They are kept on this machine alone, in log.db of the folder that HEADRACE_HOME names; `run --no-log` keeps none.
    """
    from headrace.cli._log import REMOVE, Log

    log = Log.of_user()
    if clear:
        _clear(log, bool(words or search), yes)
    elif words and words[0] == REMOVE:
        _remove(log, words[1:])
    elif len(words) > 1:
        raise RequestInvalid("one conversation can be printed at a time: give one ID or NAME")
    elif words:
        _print(log, words[0], as_json, plain)
    else:
        _list(log, number, search, as_json)


def _list(log: Log, number: int, search: str | None, as_json: bool) -> None:
    found = log.summaries(text=search)
    shown = found[: number or None]
    if as_json:
        click.echo(json.dumps([_facts(one) for one in shown], indent=2, ensure_ascii=False))
    elif not found:
        click.echo("There is no such conversation." if search else "No conversation is kept yet.", err=True)
    else:
        click.echo(table(COLUMNS, list(map(_cells, shown))))
        if len(found) > len(shown):
            click.echo(f"({len(found) - len(shown)} more: -n 0 lists all)", err=True)


def _print(log: Log, word: str, as_json: bool, plain: bool) -> None:
    summary = log.find(word)
    turns = log.turns(summary.id)
    if as_json:
        told = _facts(summary) | {"turns": [_turn_facts(turn) for turn in turns]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    display = display_for_stdout(not plain)
    display.write("\n\n".join(page(summary, turns)))
    display.rest()


def _remove(log: Log, words: Sequence[str]) -> None:
    if not words:
        raise RequestInvalid("something is missing: headrace log rm ID|NAME...")
    found = [log.find(word) for word in words]
    log.remove([one.id for one in found])
    for one in found:
        click.echo(f"Deleted {one.name or one.id}.")


def _clear(log: Log, some: bool, yes: bool) -> None:
    if some:
        raise RequestInvalid("--clear deletes all conversations: `headrace log rm ID` deletes one")
    ids = [one.id for one in log.summaries()]
    what = f"{len(ids)} conversation{'s' * (len(ids) != 1)}"
    if not yes and not (sys.stdin and sys.stdin.isatty()):
        raise RequestInvalid(f"--clear would delete {what}: say --yes where nobody can be asked")
    if ids and not yes and not click.confirm(f"Delete {what}?", err=True):
        click.echo("Nothing is deleted.", err=True)
        return
    if ids:
        log.remove(ids)
    click.echo(f"Deleted {what}.")


def _facts(one: Summary) -> dict[str, Any]:
    return asdict(one) | {name: _moment(getattr(one, name)).isoformat() for name in ("begun_at", "last_at")}


def _turn_facts(turn: Turn) -> dict[str, Any]:
    return asdict(turn) | {"asked_at": _moment(turn.asked_at).isoformat()}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds)).astimezone()


def _cells(one: Summary) -> tuple[str, ...]:
    title = one.title if len(one.title) <= TITLE_WIDTH else f"{one.title[: TITLE_WIDTH - 1]}…"
    when = f"{_moment(one.last_at):%Y-%m-%d %H:%M}"
    return (str(one.id), one.name or "", when, short(one.model), str(one.turn_count), title)


def page(summary: Summary, turns: Sequence[Turn]) -> Iterator[str]:
    """A conversation as the blocks of a Markdown text: who says what, what is called, and what it gives back."""
    yield f"# Conversation {summary.name or summary.id}"
    yield f"{short(summary.model)}{_at(summary.server)}, {_moment(summary.begun_at):%Y-%m-%d %H:%M}"
    system, model = None, summary.model
    for turn in turns:
        if turn.system and turn.system != system:
            yield f"## System\n\n{turn.system}"
        system, model = turn.system, turn.model
        for before, message in zip([None, *turn.messages], turn.messages, strict=False):
            yield from _blocks(message, model, goes_on=before is not None and before["role"] != "user")
        if turn.reason == "interrupted":
            yield "*(interrupted)*"


def _blocks(message: Mapping[str, Any], model: str, goes_on: bool) -> Iterator[str]:
    """Of a message; `goes_on` after others of the same answer."""
    role, content = message["role"], str(message["content"]).strip("\n")
    if role == "tool":
        yield f"← {message.get('name') or 'result'}:\n\n{_fenced(content)}"
        return
    if not goes_on:
        yield "## You" if role == "user" else f"## {short(model)}"
    if thinking := message.get("thinking"):
        yield "\n".join(f"> {line}".rstrip() for line in str(thinking).strip().split("\n"))
    if content:
        yield content
    for call in message.get("tool_calls", ()):
        function = call["function"]
        yield f"→ {_quoted(call_text(function['name'], function['arguments']))}"


def short(model: str) -> str:
    """Without the folders of a path."""
    return Path(model).name if Path(model).is_absolute() else model


def _at(server: str | None) -> str:
    return f" at {server}" if server else ""


def _fenced(text: str) -> str:
    """Between fences longer than any in it."""
    fence = "`" * max(FENCE, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _quoted(text: str) -> str:
    """As code in a line."""
    ticks = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"
