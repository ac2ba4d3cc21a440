"""The log of conversations: one SQLite file in the user's folder, which nobody else may read.

Every operation opens the file and closes it again, so that any number of processes share it. What is wrong with the
file is a FileInvalid with one sentence, whatever the operation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from headrace.cli._saved import check_message
from headrace.errors import FileInvalid, RequestInvalid
from headrace.events import Timings, Usage
from headrace.machine import home_folder

try:
    import sqlite3
except ImportError:  # a Python that was built where SQLite was not
    sqlite3 = None  # type: ignore[assignment]

FILE: Final = "log.db"
PATIENCE_S: Final = 2.0  # with another process that writes
TITLE_CHARACTERS: Final = 200
LONGEST_NAME: Final = 100  # characters
REMOVE: Final = "rm"  # a word of `headrace log`, so no name
# A file's user_version says how many of these steps made it; a newer Headrace has more of them, and takes the rest.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE conversations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given a second time
            name TEXT UNIQUE,
            title TEXT NOT NULL,
            begun_at REAL NOT NULL                 -- seconds since 1970, as all that ends in _at
        )""",
        """CREATE TABLE turns (
            id INTEGER PRIMARY KEY,
            conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
            asked_at REAL NOT NULL,
            model TEXT NOT NULL,
            server TEXT,                           -- the address of one where the model runs
            system TEXT,
            tools TEXT,
            parameters TEXT NOT NULL,              -- JSON: what the user gave
            reason TEXT NOT NULL,
            usage TEXT,                            -- JSON: tokens
            timings TEXT,                          -- JSON: seconds
            total_s REAL NOT NULL
        )""",
        """CREATE TABLE messages (
            id INTEGER PRIMARY KEY,
            turn INTEGER NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            thinking TEXT,
            more TEXT                              -- JSON: calls, and whose result it is
        )""",
        "CREATE INDEX turns_of_conversation ON turns (conversation)",
        "CREATE INDEX messages_of_turn ON messages (turn)",
    ),
)
# What a row of either kind holds, once its JSON is read.
COLUMNS: Final[Mapping[str, Any]] = MappingProxyType(
    dict.fromkeys(("title", "model", "reason"), str)
    | dict.fromkeys(("name", "server", "system", "tools"), str | None)
    | dict.fromkeys(("begun_at", "last_at", "asked_at", "total_s"), float)
    | dict.fromkeys(("id", "turn_count"), int)
    | {"parameters": dict, "messages": list, "usage": Usage | None, "timings": Timings | None}
)
# Beside max(), SQLite takes columns from the row that has the maximum: the last turn.
SUMMARIES: Final = """
SELECT c.id, c.name, c.title, c.begun_at, t.asked_at AS last_at, t.model, t.server, count(*) AS turn_count, max(t.id)
FROM conversations AS c JOIN turns AS t ON t.conversation = c.id
WHERE {} GROUP BY c.id ORDER BY max(t.id) DESC LIMIT :limit
"""
FOUND: Final = """contains(c.name, :text) OR contains(c.title, :text) OR c.id IN (
    SELECT t.conversation FROM messages AS m JOIN turns AS t ON m.turn = t.id
    WHERE contains(m.content, :text) OR contains(m.thinking, :text) OR contains(m.more, :text))
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn added, and how it went. A message has what was thought before it under "thinking"; `reason` is that
    of Done, or "interrupted"."""

    asked_at: float
    model: str
    server: str | None
    system: str | None
    tools: str | None
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    reason: str
    usage: Usage | None
    timings: Timings | None
    total_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation as a list has it. Model and server are those of its last turn."""

    id: int
    name: str | None
    title: str
    begun_at: float
    last_at: float
    model: str
    server: str | None
    turn_count: int


@dataclass(frozen=True, slots=True)
class Log:
    """The file, which is made when the first turn is added. Every method raises FileInvalid."""

    path: Path

    @classmethod
    def of_user(cls) -> Log:
        return cls(home_folder() / FILE)

    def add(
        self, turn: Turn, title: str, id_: int | None = None, name: str | None = None, *, anew: bool = False
    ) -> int:
        """Adds a turn to the conversation with this id, else to that of this name, else to a new one: its id.

        `anew` takes the name from the conversation that has it, and begins one.
        """
        with self._open(write=True) as database:
            if anew:
                database.execute("UPDATE conversations SET name = NULL WHERE name = ?", (name,))
            id_ = _place(database, id_, name) or _begin(database, name, title, turn.asked_at)
            columns = _columns(turn)
            names = ", ".join(columns)
            marks = ", ".join(f":{column}" for column in columns)
            made = database.execute(
                f"INSERT INTO turns (conversation, {names}) VALUES (:id, {marks})", columns | {"id": id_}
            )
            database.executemany(
                "INSERT INTO messages (turn, role, content, thinking, more) VALUES (?, ?, ?, ?, ?)",
                [(made.lastrowid, *_message_columns(message)) for message in turn.messages],
            )
        return id_

    def summaries(self, limit: int = -1, text: str | None = None) -> list[Summary]:
        """Those that were gone on with last come first; only those with `text` somewhere in them, in any case."""
        if not self.path.exists():
            return []
        with self._open() as database:
            rows = database.execute(
                SUMMARIES.format("TRUE" if text is None else FOUND), {"limit": limit, "text": (text or "").casefold()}
            ).fetchall()
        return [self._checked(Summary, row) for row in rows]

    def find(self, word: str) -> Summary:
        """The conversation of this id or name. Raises RequestInvalid."""
        found = [one for one in self.summaries() if word in (str(one.id), one.name)]
        if not found:
            raise RequestInvalid(f"there is no conversation {word!r}: `headrace log` lists them")
        return found[0]

    def turns(self, id_: int) -> list[Turn]:
        with self._open() as database:
            database.execute("BEGIN")
            rows = database.execute("SELECT * FROM turns WHERE conversation = ? ORDER BY id", (id_,)).fetchall()
            said = database.execute(
                "SELECT m.* FROM messages AS m JOIN turns AS t ON m.turn = t.id WHERE t.conversation = ? ORDER BY m.id",
                (id_,),
            ).fetchall()
        messages: dict[int, list[sqlite3.Row]] = {row["id"]: [] for row in rows}
        for one in said:
            messages[one["turn"]].append(one)
        return [self._turn(row, messages[row["id"]]) for row in rows]

    def remove(self, ids: Sequence[int]) -> None:
        """Deletes them, so that nothing of them is left in the file."""
        with self._open(write=True) as database:
            database.executemany("DELETE FROM conversations WHERE id = ?", [(id_,) for id_ in ids])
        with self._open() as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _turn(self, row: sqlite3.Row, said: list[sqlite3.Row]) -> Turn:
        try:
            usage, timings = (json.loads(row[name] or "null") for name in ("usage", "timings"))
            values = dict(row) | {
                "parameters": json.loads(row["parameters"]),
                "messages": [_message(one) for one in said],
                "usage": usage and Usage(**usage),
                "timings": timings and Timings(**timings),
            }
        except (TypeError, ValueError, RecursionError, RequestInvalid) as error:
            raise self._damaged(error) from None
        turn: Turn = self._checked(Turn, values)
        return turn

    def _checked(self, kind: type[Any], row: Any) -> Any:
        """A row as an object: any column of an SQLite file may hold anything."""
        values = {field.name: row[field.name] for field in fields(kind)}
        for name, value in values.items():
            if not isinstance(value, COLUMNS[name]):
                raise self._damaged(f"{name} is {value!r}")
        return kind(**values)

    def _make(self) -> None:
        """The file, for the user alone to read: SQLite gives its other files the rights of the first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            if self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
        except OSError as error:
            raise FileInvalid(self.path, f"cannot be written: {error.strerror}") from None

    @contextmanager
    def _open(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """The file, brought up to date; `write` makes it, and is a transaction: done at the end, or not at all."""
        if sqlite3 is None:
            raise FileInvalid(self.path, "cannot be read: this Python has no sqlite3 module")
        if write:
            self._make()
        try:
            address = f"{self.path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(address, PATIENCE_S, isolation_level=None, uri=True)) as database:
                database.row_factory = sqlite3.Row
                database.create_function("contains", 2, _contains, deterministic=True)
                database.execute("PRAGMA foreign_keys = ON")
                database.execute("PRAGMA secure_delete = ON")
                self._migrate(database)
                if write:
                    _let_readers_in(database)
                    database.execute("BEGIN IMMEDIATE")
                yield database
                if write:
                    database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _migrate(self, database: sqlite3.Connection) -> None:
        if _version(database) == len(MIGRATIONS):
            return
        database.execute("BEGIN IMMEDIATE")
        version = _version(database)  # another process may have been faster
        if version > len(MIGRATIONS):
            raise FileInvalid(self.path, "written by a newer Headrace: use that one, or move the file away")
        if version == 0 and database.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise self._damaged("it has other tables")
        for step in MIGRATIONS[version:]:
            for statement in step:
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")

    def _unusable(self, error: sqlite3.Error) -> FileInvalid:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return FileInvalid(self.path, "another process has it locked: try again when that is done")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or not name or name == "SQLITE_ERROR":
            return self._damaged(error)
        return FileInvalid(self.path, f"cannot be read or written ({error})")

    def _damaged(self, why: object) -> FileInvalid:
        return FileInvalid(
            self.path, f"damaged, or no log of conversations ({why}): move it away, and a new one is begun"
        )


def check_name(name: str) -> str:
    """Raises RequestInvalid for what would be taken for an id or a flag, or cannot be seen."""
    fits = name.isprintable() and name == name.strip() and 0 < len(name) <= LONGEST_NAME
    if not fits or name.isdecimal() or name.startswith("-") or name == REMOVE:
        raise RequestInvalid(
            f"{name!r} is no name of a conversation: expected a word of up to {LONGEST_NAME} characters, and no number"
        )
    return name


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _let_readers_in(database: sqlite3.Connection) -> None:
    """While somebody writes: the file remembers it. Whoever finds it busy has the next one do it."""
    (mode,) = database.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        with suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode = WAL")


def _place(database: sqlite3.Connection, id_: int | None, name: str | None) -> int | None:
    """Where a turn belongs, if that is there: another process may have deleted it, or begun one of that name."""
    row = database.execute(
        "SELECT id FROM conversations WHERE id = ? OR name = ? ORDER BY id = ? DESC", (id_, name, id_)
    ).fetchone()
    return row and int(row["id"])


def _begin(database: sqlite3.Connection, name: str | None, title: str, begun_at: float) -> int:
    row = (name, _text(" ".join(title.split())[:TITLE_CHARACTERS]), begun_at)
    made = database.execute("INSERT INTO conversations (name, title, begun_at) VALUES (?, ?, ?)", row)
    return int(made.lastrowid or 0)


def _columns(turn: Turn) -> dict[str, Any]:
    values = {name: getattr(turn, name) for name in ("asked_at", "total_s")}
    values |= {name: _text(getattr(turn, name)) for name in ("model", "server", "system", "tools", "reason")}
    values |= {name: _json(asdict(value)) if (value := getattr(turn, name)) else None for name in ("usage", "timings")}
    return values | {"parameters": _json(turn.parameters)}


def _message_columns(message: dict[str, Any]) -> tuple[str | None, ...]:
    apart = ("role", "content", "thinking")
    more = {name: value for name, value in message.items() if name not in apart}
    return (*(_text(message.get(name)) for name in apart), _json(more) if more else None)


def _message(row: sqlite3.Row) -> dict[str, Any]:
    more = dict(json.loads(row["more"] or "{}"))
    thinking = {"thinking": str(row["thinking"])} if row["thinking"] else {}
    message = {"role": row["role"], "content": row["content"], **thinking, **more}
    check_message(message, f"message {row['id']}")
    return message


def _json(value: Any) -> str:
    return str(_text(json.dumps(value, ensure_ascii=False, default=str)))


def _text(value: str | None) -> str | None:
    """As UTF-8 can have it: what comes from a command line may hold half a character."""
    return None if value is None else value.encode("utf-8", "replace").decode()


def _contains(text: object, folded: str) -> bool:
    return isinstance(text, str) and folded in text.casefold()
