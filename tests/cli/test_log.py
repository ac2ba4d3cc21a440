"""The log of conversations as a file: there and back, shared by processes, damaged, old, locked; and `headrace log`."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.cli import _log
from headrace.cli import headrace as cli
from headrace.cli._log import MIGRATIONS, Log, Turn, check_name
from headrace.cli.log import page
from headrace.errors import FileInvalid, RequestInvalid
from headrace.events import Timings, Usage

CALL = {"id": "call_0", "type": "function", "function": {"name": "find", "arguments": {"what": "Grüße"}}}
TURN = Turn(
    asked_at=1_700_000_000.5,
    model="nano",
    server=None,
    system="Be brief.",
    tools="builtin",
    parameters={"temperature": 0.5, "stop": ["END"]},
    messages=[
        {"role": "user", "content": 'Find\n"it"'},
        {"role": "assistant", "content": "", "thinking": "let me see", "tool_calls": [CALL]},
        {"role": "tool", "content": "50 %", "tool_call_id": "call_0", "name": "find"},
        {"role": "assistant", "content": "Found."},
    ],
    reason="stop",
    usage=Usage(7, 5, 1, 2),
    timings=Timings(0.1, 0.2, 0.3, 0.25),
    total_s=0.7,
)
BARE = replace(TURN, system=None, tools=None, parameters={}, reason="interrupted", usage=None, timings=None)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_log, "PATIENCE_S", 0.05)
    return Log.of_user()


def saying(text: str) -> Turn:
    return replace(BARE, messages=[{"role": "user", "content": text}])


# --- the file


def test_there_and_back(log: Log) -> None:
    assert log.summaries() == []
    assert not log.path.exists()
    one = log.add(TURN, "Find\n it ", name="search")
    assert log.add(BARE, "not the first", one) == one
    other = log.add(BARE, "x" * 300)
    assert log.turns(one) == [TURN, BARE]
    assert log.turns(other) == [BARE]
    first, second = log.summaries()
    assert (first.id, first.name, first.title, first.turn_count) == (other, None, "x" * 200, 1)
    assert (second.id, second.name, second.title, second.turn_count) == (one, "search", "Find it", 2)
    assert (second.model, second.server, second.begun_at, second.last_at) == (
        "nano",
        None,
        1_700_000_000.5,
        TURN.asked_at,
    )


def test_the_last_is_what_was_added_last_whatever_the_clock_says(log: Log) -> None:
    one, other = log.add(BARE, "one"), log.add(BARE, "other")
    assert [found.id for found in log.summaries()] == [other, one]
    log.add(replace(BARE, asked_at=1.0, model="earlier"), "", one)
    assert [(found.id, found.model) for found in log.summaries()] == [(one, "earlier"), (other, "nano")]
    assert [found.id for found in log.summaries(limit=1)] == [one]


def test_nobody_else_may_read_it(log: Log) -> None:
    log.path.parent.mkdir()
    log.path.touch(0o644)
    modes = list[int]()
    log.add(BARE, "one")
    with closing(sqlite3.connect(log.path)) as other:  # keeps the files beside it alive
        other.execute("SELECT * FROM turns").fetchone()
        log.add(BARE, "two")
        modes = [stat.S_IMODE(path.stat().st_mode) for path in log.path.parent.iterdir()]
    assert modes == [0o600] * 3, "the log, what is not in it yet, and its index"


@pytest.mark.parametrize("word", ["1", "search"])
def test_a_conversation_is_found_by_its_id_or_name(word: str, log: Log) -> None:
    log.add(TURN, "one", name="search")
    log.add(TURN, "other")
    assert log.find(word).id == 1


@pytest.mark.parametrize("word", ["9", "nonesuch", "", "01"])
def test_a_conversation_that_is_not_there(word: str, log: Log) -> None:
    log.add(TURN, "one", name="search")
    with pytest.raises(RequestInvalid, match="`headrace log` lists them"):
        log.find(word)


@pytest.mark.parametrize("text", ["find\n", '"IT"', "let me SEE", "grüSSe", "0 %", "found.", "first words", "SEARCH"])
def test_text_is_found_wherever_it_stands(text: str, log: Log) -> None:
    one = log.add(TURN, "First words", name="search")
    log.add(saying("something else"), "Nothing")
    assert [found.id for found in log.summaries(text=text)] == [one]


def test_text_is_no_pattern(log: Log) -> None:
    log.add(saying("100"), "100")
    assert log.summaries(text="1%0") == log.summaries(text="1_0") == []
    found = log.summaries(text="100")
    assert (len(found), found[0].turn_count) == (1, 1)


def test_half_a_character_is_kept_as_a_question_mark(log: Log) -> None:
    id_ = log.add(replace(saying("a\udcffb\0c"), model="m\udcff", parameters={"stop": ["\udcff"]}), "t\udcff")
    (turn,) = log.turns(id_)
    assert (turn.model, turn.messages[0]["content"], turn.parameters) == ("m?", "a?b\0c", {"stop": ["?"]})


def test_nothing_is_left_of_what_was_deleted(log: Log) -> None:
    secret, kept = log.add(saying("secret " * 3000), "secret"), log.add(saying("public " * 3000), "public")
    with closing(sqlite3.connect(log.path)) as other:  # keeps what is not in the log yet in a file beside it
        other.execute("SELECT * FROM turns").fetchone()
        log.remove([secret])
        content = b"".join(path.read_bytes() for path in log.path.parent.iterdir())
    assert b"secret" not in content
    assert b"public" in content
    assert [found.id for found in log.summaries()] == [kept]
    assert log.add(BARE, "next") > kept
    log.remove([found.id for found in log.summaries()])
    assert log.add(BARE, "an id is never given a second time") > kept + 1


def test_a_conversation_that_was_deleted_meanwhile_begins_anew(log: Log) -> None:
    id_ = log.add(saying("one"), "one", name="talk")
    log.remove([id_])
    again = log.add(saying("two"), "one", id_, "talk")
    assert [turn.messages[0]["content"] for turn in log.turns(again)] == ["two"]
    assert log.find("talk").id == again != id_


def test_a_name_goes_to_the_conversation_that_begins_anew(log: Log) -> None:
    one = log.add(BARE, "one", name="talk")
    assert log.add(BARE, "", name="talk") == one
    other = log.add(BARE, "other", name="talk", anew=True)
    assert {found.id: found.name for found in log.summaries()} == {one: None, other: "talk"}


@pytest.mark.parametrize("name", ["", " a", "a\n", "12", "-x", "rm", "x" * 101])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(RequestInvalid, match="is no name of a conversation"):
        check_name(name)
    assert check_name("Grüße an 12") == "Grüße an 12"


# --- shared, old, damaged

WRITER = """
import sys
from tests.cli.test_log import saying
from headrace.cli import _log
_log.PATIENCE_S = 200
log, own = _log.Log.of_user(), None
for number in range(20):
    log.add(saying(f"shared {number}"), "shared", name="shared")
    own = log.add(saying(f"own {number}"), sys.argv[1], own)
"""


def test_several_processes_write_at_once(log: Log) -> None:
    """From the first moment, when there is no file yet."""
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, str(number)], cwd=Path(__file__).parents[2]) for number in range(4)]
    assert [writer.wait(240) for writer in writers] == [0] * 4
    found = {one.title: one for one in log.summaries()}
    assert {title: one.turn_count for title, one in found.items()} == dict.fromkeys("0123", 20) | {"shared": 80}
    for title in "0123":
        assert [turn.messages[0]["content"] for turn in log.turns(found[title].id)] == [f"own {n}" for n in range(20)]


def test_a_file_of_an_older_version_is_brought_up_to_date(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = log.add(TURN, "one")
    later = ("ALTER TABLE turns ADD COLUMN mood TEXT", "UPDATE turns SET model = 'renamed'")
    monkeypatch.setattr(_log, "MIGRATIONS", (*MIGRATIONS, later))
    for _ in range(2):
        assert log.turns(id_) == [replace(TURN, model="renamed")]
    with sqlite3.connect(log.path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert file.execute("SELECT mood FROM turns").fetchone() == (None,)
    monkeypatch.undo()
    newer = Log(log.path)
    with pytest.raises(FileInvalid, match="written by a newer Headrace"):
        newer.add(TURN, "one")


def test_a_step_that_fails_leaves_the_file_as_it_was(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = log.add(TURN, "one")
    monkeypatch.setattr(_log, "MIGRATIONS", (*MIGRATIONS, ("DELETE FROM turns", "no SQL")))
    with pytest.raises(FileInvalid):
        log.summaries()
    monkeypatch.setattr(_log, "MIGRATIONS", MIGRATIONS)
    assert log.turns(id_) == [TURN]


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 100)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def another_programs(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE bookmarks (url TEXT)")


def changed(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as file:
            file.execute(statement)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        garbage,
        cut_off,
        another_programs,
        changed("DROP TABLE messages"),
        changed("UPDATE turns SET asked_at = 'noon'"),
        changed("UPDATE turns SET model = x'00ff'"),
        changed("UPDATE turns SET parameters = '[1]'"),
        changed("UPDATE turns SET parameters = '{'"),
        changed("UPDATE turns SET usage = '{\"tokens\": 1}'"),
        changed("UPDATE messages SET more = '[['"),
        changed("UPDATE messages SET more = '{\"tool_calls\": 1}'"),
        changed("UPDATE messages SET more = '{\"tool_calls\": [{}]}'"),
        changed("UPDATE messages SET more = '{\"content\": 1}'"),
        changed("UPDATE messages SET role = 'system'"),
        changed("UPDATE messages SET content = x'00'"),
        changed("UPDATE messages SET content = CAST(x'ff' AS TEXT)"),
    ],
)
def test_damage_is_one_sentence(damage: Callable[[Path], None], log: Log) -> None:
    id_ = log.add(TURN, "one")
    damage(log.path)
    with pytest.raises(FileInvalid, match=r"log\.db: damaged, or no log of conversations \(.*move it away") as raised:
        assert [log.summaries(), log.turns(id_)] == "never read"
    assert raised.value.path == str(log.path)


def test_what_is_in_the_way_is_one_sentence(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileInvalid, match="cannot be written: File exists"):
        Log(tmp_path / "file" / "log.db").add(TURN, "one")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileInvalid, match="cannot be"):
        Log(tmp_path / "folder").summaries()
    log.add(TURN, "one")
    holder = sqlite3.connect(log.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(FileInvalid, match="another process has it locked"):
        log.add(TURN, "two")
    assert len(log.summaries()) == 1, "who reads need not wait"
    holder.close()
    monkeypatch.setattr(_log, "sqlite3", None)
    with pytest.raises(FileInvalid, match="this Python has no sqlite3 module"):
        log.add(TURN, "two")


# --- the command


def headrace(*arguments: str, stdin: str = "") -> Result:
    """What a command prints; its error is raised."""
    return CliRunner().invoke(cli, ["log", *arguments], input=stdin, catch_exceptions=False, standalone_mode=False)


def test_the_list(log: Log, tmp_path: Path) -> None:
    assert headrace().stderr == "No conversation is kept yet.\n"
    log.add(TURN, "One \x1b[31m", name="search")
    log.add(replace(BARE, model=str(tmp_path / "model.gguf")), "words " * 20)
    head, second, first = headrace().stdout.splitlines()
    assert head.split() == ["ID", "NAME", "WHEN", "MODEL", "TURNS", "FIRST", "WORDS"]
    assert re.match(r"2 +2023-11-1\d \d\d:\d\d  model\.gguf  1  +words ", second)
    assert second.endswith(" w…")
    assert first.split()[:2] == ["1", "search"]
    assert first.endswith("One ␛[31m")
    limited = headrace("-n", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert limited.stderr == "(1 more: -n 0 lists all)\n"
    assert len(headrace("-n", "0").stdout.splitlines()) == 3
    assert [one["id"] for one in json.loads(headrace("--json").stdout)] == [2, 1]
    assert [one["id"] for one in json.loads(headrace("--json", "--search", "FOUND").stdout)] == [2, 1]
    assert headrace("--search", "nonesuch").stderr == "There is no such conversation.\n"
    assert json.loads(headrace("--json", "--search", "nonesuch").stdout) == []


PAGE = """# Conversation search

nano, DATE

## System

Be brief.

## You

Find
"it"

## nano

> let me see

→ `find(what="Grüße")`

← find:

```
50 %
```

Found.

## You

Find
"it"

## nano

> let me see

→ `find(what="Grüße")`

← find:

```
50 %
```

Found.

*(interrupted)*
"""


def test_a_conversation_as_markdown(log: Log) -> None:
    id_ = log.add(TURN, "one", name="search")
    log.add(BARE, "", id_)
    for word in ("1", "search"):
        lines = headrace(word).stdout.split("\n")
        lines[2] = f"{lines[2].partition(',')[0]}, DATE"
        assert "\n".join(lines) == PAGE


def test_what_would_break_out_of_code_does_not(log: Log) -> None:
    call: Any = {"function": {"name": "f", "arguments": {"a": "`b`"}}}
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "````\n# no heading\n````", "name": "f"},
    ]
    log.add(replace(BARE, messages=messages), "one")
    text = "\n\n".join(page(log.find("1"), log.turns(1)))
    assert '→ `` f(a="`b`") ``' in text
    assert "`````\n````\n# no heading\n````\n`````" in text


def test_a_conversation_as_json(log: Log) -> None:
    log.add(TURN, "one", name="search")
    told = json.loads(headrace("search", "--json").stdout)
    assert (told["id"], told["name"], told["title"], told["turn_count"]) == (1, "search", "one", 1)
    (turn,) = told["turns"]
    assert turn["messages"] == TURN.messages
    assert turn["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "forced_tokens": 1, "cached_tokens": 2}
    assert turn["timings"] == {"queue_s": 0.1, "prompt_s": 0.2, "decode_s": 0.3, "first_token_s": 0.25}
    assert datetime.fromisoformat(turn["asked_at"]).timestamp() == 1_700_000_000


def test_deleting(log: Log) -> None:
    for name in ("a", "b", "c"):
        log.add(TURN, name, name=name)
    assert headrace("rm", "a", "2").stdout == "Deleted a.\nDeleted b.\n"
    assert [one.name for one in log.summaries()] == ["c"]
    with pytest.raises(RequestInvalid, match="say --yes where nobody can be asked"):
        headrace("--clear")
    with pytest.raises(RequestInvalid, match="no conversation 'b'"):
        headrace("rm", "c", "b")
    assert len(log.summaries()) == 1
    assert headrace("--clear", "--yes").stdout == "Deleted 1 conversation.\n"
    assert log.summaries() == []
    assert headrace("--clear", "--yes").stdout == "Deleted 0 conversations.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rm"], "something is missing: headrace log rm"),
        (["a", "b"], "give one ID or NAME"),
        (["a", "--clear", "--yes"], "--clear deletes all conversations"),
        (["--search", "a", "--clear", "--yes"], "--clear deletes all conversations"),
        (["nonesuch"], "there is no conversation 'nonesuch'"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, log: Log) -> None:
    log.add(TURN, "one", name="a")
    with pytest.raises(RequestInvalid, match=sentence):
        headrace(*arguments)
    assert len(log.summaries()) == 1
