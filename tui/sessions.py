"""Conversations on disk, in one SQLite file. Every change is there at once and survives kill -9.

A file that is damaged is moved aside, never deleted, and told in `trouble`; where nothing can be written
the sessions live in memory, which is told as well. Knows no widgets. One thread uses it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .text import one_line, storable

VERSION = 1
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS session (
  id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL DEFAULT '', named INTEGER NOT NULL DEFAULT 0,
  draft TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS turn (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
  role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT NOT NULL DEFAULT '', thought REAL NOT NULL DEFAULT 0,
  model TEXT NOT NULL DEFAULT '', finish TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  tokens INTEGER NOT NULL DEFAULT 0, rate REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS turn_of ON turn(session, id);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA user_version = {VERSION};
"""
TABLES = {"session", "turn", "setting"}
COLUMNS = "id, role, content, reasoning, thought, model, finish, reason, tokens, rate"


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One message. An answer without a `finish` was cut off by the end of the program."""

    id: int
    role: str  # "user" or "assistant"
    content: str
    reasoning: str = ""
    thought: float = 0.0  # seconds of reasoning
    model: str = ""
    finish: str = ""
    reason: str = ""
    tokens: int = 0
    rate: float = 0.0  # tokens a second


@dataclass(frozen=True, slots=True)
class Summary:
    id: int
    title: str
    changed: float
    turns: int
    draft: str = ""


class NewerFile(sqlite3.DatabaseError):
    """Written by a later mlxrun: whole, but not ours to touch."""


def default_place(environ: Mapping[str, str] = os.environ) -> Path:
    home = environ.get("MLXRUN_HOME")
    if home:
        return Path(home).expanduser().absolute() / "sessions.db"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlxrun" / "sessions.db"
    data = environ.get("XDG_DATA_HOME", "")
    return (Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share") / "mlxrun" / "sessions.db"


class Sessions:
    def __init__(self, connection: sqlite3.Connection, *, trouble: str = "", lock: IO[bytes] | None = None) -> None:
        self._db, self.trouble, self._lock = connection, trouble, lock
        self.alone = lock is not None  # no other terminal has these sessions open

    @classmethod
    def open(cls, place: Path) -> Sessions:
        trouble = ""
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = hold(place.with_suffix(".lock"))
            try:
                connection = connect(place)
            except NewerFile:
                raise
            except sqlite3.OperationalError:
                raise  # locked, read-only, disk full: nothing says that the file is damaged
            except sqlite3.DatabaseError:
                aside = move_aside(place)
                trouble = f"The saved sessions were damaged and are now in {aside}; a new file was begun."
                connection = connect(place)
            return cls(connection, trouble=trouble, lock=lock)
        except (OSError, sqlite3.Error) as error:
            told = str(error).rstrip(".")
            return cls(in_memory(), trouble=f"Sessions cannot be saved in {place}: {told}. They last until you quit.")

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    # sessions

    def create(self) -> int:
        return self._add("INSERT INTO session (changed) VALUES (?)", time.time())

    def last(self) -> Summary | None:
        found = self.find(limit=1)
        return found[0] if found else None

    def find(self, words: str = "", limit: int = 200) -> list[Summary]:
        """Latest first; every word stands somewhere in the title, in a message or in the draft."""
        tests, values = ["NOT deleted"], []
        for word in storable(words).split():
            tests.append(
                "(contains(title, ?) OR contains(draft, ?)"
                " OR EXISTS (SELECT 1 FROM turn WHERE session = s.id AND contains(content, ?)))"
            )
            values += [word] * 3
        rows = self._db.execute(
            "SELECT id, title, changed, (SELECT count(*) FROM turn WHERE session = s.id), draft"
            f" FROM session s WHERE {' AND '.join(tests)} ORDER BY changed DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [Summary(*row) for row in rows]

    def get(self, session: int) -> Summary | None:
        row = self._db.execute(
            "SELECT id, title, changed, (SELECT count(*) FROM turn WHERE session = s.id), draft"
            " FROM session s WHERE id = ? AND NOT deleted",
            (session,),
        ).fetchone()
        return None if row is None else Summary(*row)

    def rename(self, session: int, title: str) -> None:
        self._do("UPDATE session SET title = ?, named = 1 WHERE id = ?", one_line(title), session)

    def delete(self, session: int, *, undo: bool = False) -> None:
        """It is hidden until `purge`, so it can come back."""
        self._do("UPDATE session SET deleted = ? WHERE id = ?", int(not undo), session)

    def purge(self) -> None:
        """Forget what was deleted, and sessions in which nothing was ever said."""
        empty = "draft = '' AND NOT EXISTS (SELECT 1 FROM turn WHERE session = session.id)"
        self._do(f"DELETE FROM session WHERE deleted OR (named = 0 AND {empty})")

    def draft(self, session: int, text: str) -> None:
        self._do("UPDATE session SET draft = ?, changed = ? WHERE id = ?", storable(text), time.time(), session)

    # turns

    def turns(self, session: int) -> list[ChatTurn]:
        rows = self._db.execute(f"SELECT {COLUMNS} FROM turn WHERE session = ? ORDER BY id", (session,))
        return [ChatTurn(*row) for row in rows]

    def say(self, session: int, text: str) -> ChatTurn:
        """The person's message: the first one also names the session, and the draft is used up."""
        text = storable(text)
        with self._db:
            made = self._db.execute("INSERT INTO turn (session, role, content) VALUES (?, 'user', ?)", (session, text))
            turn = int(made.lastrowid or 0)
            self._db.execute("UPDATE session SET draft = '', changed = ? WHERE id = ?", (time.time(), session))
            self._db.execute(
                "UPDATE session SET title = ? WHERE id = ? AND NOT named"
                " AND ? = (SELECT min(id) FROM turn WHERE session = ?)",
                (one_line(text), session, turn, session),
            )
        return ChatTurn(turn, "user", text)

    def answer(self, session: int, model: str) -> ChatTurn:
        """An answer that begins."""
        model = storable(model)
        turn = self._add(
            "INSERT INTO turn (session, role, content, model) VALUES (?, 'assistant', '', ?)", session, model
        )
        return ChatTurn(turn, "assistant", "", model=model)

    def save(self, turn: ChatTurn) -> None:
        self._do(
            "UPDATE turn SET content = ?, reasoning = ?, thought = ?, finish = ?, reason = ?, tokens = ?, rate = ?"
            " WHERE id = ?",
            *(storable(turn.content), storable(turn.reasoning), turn.thought, turn.finish),
            *(storable(turn.reason), turn.tokens, turn.rate, turn.id),
        )

    def cut(self, session: int, turn: int) -> None:
        """Forget that turn and all after it; with the first message goes the title that it gave."""
        with self._db:
            self._db.execute("DELETE FROM turn WHERE session = ? AND id >= ?", (session, turn))
            self._db.execute(
                "UPDATE session SET title = '' WHERE id = ? AND NOT named"
                " AND NOT EXISTS (SELECT 1 FROM turn WHERE session = ?)",
                (session, session),
            )

    # small things to remember

    def setting(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, name: str, value: str) -> None:
        self._do("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, storable(value))

    def _do(self, statement: str, *values: Any) -> None:
        with self._db:
            self._db.execute(statement, values)

    def _add(self, statement: str, *values: Any) -> int:
        with self._db:
            return int(self._db.execute(statement, values).lastrowid or 0)


def connect(place: Path) -> sqlite3.Connection:
    """The file's sessions, made if need be. A damaged file is a sqlite3.DatabaseError."""
    place.touch(mode=0o600)  # SQLite gives its log the same rights
    place.chmod(0o600)
    db = prepared(sqlite3.connect(place, timeout=2.0))
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # each commit outlives the process; a checkpoint is synced
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise NewerFile(f"a newer mlxrun wrote it (format {version}, here {VERSION})")
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version and not tables >= TABLES:
            raise sqlite3.DatabaseError("tables are missing")
        if (said := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(said)
        db.executescript(SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")  # what a person deletes is gone from the file
    db.create_function("contains", 2, lambda text, word: word.casefold() in text.casefold(), deterministic=True)
    return db


def in_memory() -> sqlite3.Connection:
    db = prepared(sqlite3.connect(":memory:"))
    db.executescript(SCHEMA)
    return db


def move_aside(place: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            place.with_name(place.name + suffix).rename(place.with_name(f"{place.stem}-damaged-{stamp}.db{suffix}"))
    return place.with_name(f"{place.stem}-damaged-{stamp}.db")


def hold(place: Path) -> IO[bytes] | None:
    """None: another terminal holds it. The system lets go of it with the process, however that ends."""
    lock = place.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
