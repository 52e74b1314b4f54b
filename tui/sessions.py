"""Conversations on disk, in one SQLite file. Every change is there at once and survives kill -9.

A file that is damaged is moved aside, never deleted, and told in `trouble`; where nothing can be written
the sessions live in memory, which is told as well. Knows no widgets. One thread uses it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .schema import NewerFile, connect, hold, in_memory, move_aside
from .text import one_line, storable

TURN = (
    *("id", "role", "content", "reasoning", "thought", "model", "finish", "reason", "tokens", "rate"),
    *("parent", "prompt", "cached", "first", "keeps", "files", "calls"),
)
COLUMNS = ", ".join(TURN)
SAVED = (*TURN[2:5], *TURN[6:10], *TURN[11:14], "calls")  # what changes of an answer that grows
SUMMARY = "id, title, changed, (SELECT count(*) FROM turn WHERE session = s.id), draft, tags"
# that turn and all that follows it, on every branch
UNDER = """WITH RECURSIVE under(id) AS (
  VALUES (?) UNION ALL SELECT turn.id FROM turn JOIN under ON turn.parent = under.id WHERE turn.session = ?)"""
# that turn and all that it follows
PATH = """WITH RECURSIVE path(id) AS (
  VALUES (?) UNION ALL SELECT turn.parent FROM turn JOIN path ON turn.id = path.id WHERE turn.parent IS NOT NULL)"""


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One message. An answer without a `finish` was cut off by the end of the program."""

    id: int
    role: str  # "user", "assistant" or "note": from where on a model is told of the conversation
    content: str
    reasoning: str = ""
    thought: float = 0.0  # seconds of reasoning
    model: str = ""
    finish: str = ""
    reason: str = ""
    tokens: int = 0
    rate: float = 0.0  # tokens a second
    parent: int | None = None  # the turn that it follows; None: it is a first one
    prompt: int = 0  # tokens that the model was asked with,
    cached: int = 0  # of which so many were in memory already
    first: float = 0.0  # seconds until the first token
    keeps: int = 0  # of a note: how many turns before it a model is told still
    files: str = ""  # what is attached, as attach.py writes it
    calls: str = ""  # of tools, on the way to the answer, as calls.py writes them


@dataclass(frozen=True, slots=True)
class Summary:
    id: int
    title: str
    changed: float
    turns: int
    draft: str = ""
    tags: str = ""  # words, a blank between them


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
        """Latest first; every word stands somewhere in the title, in a message or in the draft. #word: a tag."""
        tests, values = ["NOT deleted"], []
        for word in storable(words).split():
            if word.startswith("#") and len(word) > 1:
                tests.append("contains(' ' || tags, ?)")
                values.append(f" {word[1:]}")
                continue
            tests.append(
                "(contains(title, ?) OR contains(draft, ?)"
                " OR EXISTS (SELECT 1 FROM turn WHERE session = s.id AND contains(content, ?)))"
            )
            values += [word] * 3
        rows = self._db.execute(
            f"SELECT {SUMMARY} FROM session s WHERE {' AND '.join(tests)} ORDER BY changed DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [Summary(*row) for row in rows]

    def passage(self, session: int, word: str) -> str:
        """The latest message that holds the word; "" where none does."""
        row = self._db.execute(
            "SELECT content FROM turn WHERE session = ? AND contains(content, ?) ORDER BY id DESC LIMIT 1",
            (session, storable(word)),
        ).fetchone()
        return "" if row is None else str(row[0])

    def get(self, session: int) -> Summary | None:
        row = self._db.execute(f"SELECT {SUMMARY} FROM session s WHERE id = ? AND NOT deleted", (session,)).fetchone()
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

    def draft(self, session: int, text: str, files: str = "") -> None:
        values = storable(text), storable(files), time.time(), session
        self._do("UPDATE session SET draft = ?, draft_files = ?, changed = ? WHERE id = ?", *values)

    def draft_files(self, session: int) -> str:
        return self._of(session, "draft_files")

    def wishes(self, session: int) -> str:
        """How answers are made here, as wishes.py writes it."""
        return self._of(session, "wishes")

    def wish(self, session: int, wishes: str) -> None:
        self._do("UPDATE session SET wishes = ? WHERE id = ?", storable(wishes), session)

    def tag(self, session: int, tags: str) -> None:
        self._do(
            "UPDATE session SET tags = ? WHERE id = ?", " ".join(storable(tags).replace("#", " ").split()), session
        )

    def _of(self, session: int, column: str) -> str:
        row = self._db.execute(f"SELECT {column} FROM session WHERE id = ?", (session,)).fetchone()
        return "" if row is None else str(row[0])

    # turns

    def turns(self, session: int) -> list[ChatTurn]:
        """Those of the branch that is read, the first one first."""
        row = self._db.execute("SELECT leaf FROM session WHERE id = ?", (session,)).fetchone()
        return [] if row is None or row[0] is None else self.path(session, int(row[0]))

    def path(self, session: int, leaf: int) -> list[ChatTurn]:
        rows = self._db.execute(
            f"{PATH} SELECT {COLUMNS} FROM turn WHERE id IN path AND session = ? ORDER BY id", (leaf, session)
        )
        return [ChatTurn(*row) for row in rows]

    def children(self, session: int) -> dict[int | None, list[int]]:
        """Of every turn those that follow it, the oldest first; of None the first ones."""
        found: dict[int | None, list[int]] = {}
        for turn, parent in self._db.execute("SELECT id, parent FROM turn WHERE session = ? ORDER BY id", (session,)):
            found.setdefault(parent, []).append(turn)
        return found

    def read_on(self, session: int, leaf: int | None) -> None:
        """The branch that ends there is the one that is read."""
        self._do("UPDATE session SET leaf = ? WHERE id = ?", leaf, session)

    def say(self, session: int, text: str, parent: int | None = None, files: str = "") -> ChatTurn:
        """The person's message: a first one also names the session, and the draft is used up."""
        text, files = storable(text), storable(files)
        with self._db:
            turn = self._insert("session, role, content, parent, files", session, "user", text, parent, files)
            self._db.execute(
                "UPDATE session SET draft = '', draft_files = '', changed = ?, leaf = ? WHERE id = ?",
                (time.time(), turn, session),
            )
            if parent is None:
                self._db.execute("UPDATE session SET title = ? WHERE id = ? AND NOT named", (one_line(text), session))
        return ChatTurn(turn, "user", text, parent=parent, files=files)

    def answer(self, session: int, model: str, parent: int | None = None, content: str = "") -> ChatTurn:
        """It begins now and is saved while it grows. `content`: with which it is made to begin."""
        with self._db:
            turn = self._insert(
                "session, role, content, model, parent", session, "assistant", storable(content), model, parent
            )
            self._db.execute("UPDATE session SET leaf = ? WHERE id = ?", (turn, session))
        return ChatTurn(turn, "assistant", content, model=model, parent=parent)

    def note(self, session: int, text: str, parent: int, keeps: int) -> ChatTurn:
        text = storable(text)
        with self._db:
            turn = self._insert("session, role, content, parent, keeps", session, "note", text, parent, keeps)
            self._db.execute("UPDATE session SET leaf = ? WHERE id = ?", (turn, session))
        return ChatTurn(turn, "note", text, parent=parent, keeps=keeps)

    def add(self, session: int, turn: ChatTurn, parent: int | None) -> int:
        """A copy of that turn, from elsewhere; its new number."""
        with self._db:
            values = [session, parent, *(getattr(turn, name) for name in TURN if name not in ("id", "parent"))]
            names = ", ".join(name for name in TURN if name not in ("id", "parent"))
            made = self._insert(
                f"session, parent, {names}", *(storable(v) if isinstance(v, str) else v for v in values)
            )
            self._db.execute("UPDATE session SET leaf = ? WHERE id = ?", (made, session))
        return made

    def save(self, turn: ChatTurn) -> None:
        values = [getattr(turn, name) for name in SAVED]
        self._do(
            f"UPDATE turn SET {', '.join(f'{name} = ?' for name in SAVED)} WHERE id = ?",
            *(storable(value) if isinstance(value, str) else value for value in values),
            turn.id,
        )

    def remove(self, session: int, turn: int, leaf: int | None) -> None:
        """Forget that turn and all that follows it; `leaf` is read then. With the last message goes its title."""
        with self._db:
            self._db.execute(f"{UNDER} DELETE FROM turn WHERE id IN under AND session = ?", (turn, session, session))
            self._db.execute("UPDATE session SET leaf = ? WHERE id = ?", (leaf, session))
            self._db.execute(
                "UPDATE session SET title = '' WHERE id = ? AND NOT named"
                " AND NOT EXISTS (SELECT 1 FROM turn WHERE session = ?)",
                (session, session),
            )

    # small things to remember

    def setting(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def settings(self, prefix: str) -> dict[str, str]:
        """All whose names begin so, by what comes behind."""
        rows = self._db.execute("SELECT name, value FROM setting ORDER BY name")
        return {name.removeprefix(prefix): value for name, value in rows if name.startswith(prefix)}

    def forget(self, name: str) -> None:
        self._do("DELETE FROM setting WHERE name = ?", name)

    def remember(self, name: str, value: str) -> None:
        self._do("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, storable(value))

    def _do(self, statement: str, *values: Any) -> None:
        with self._db:
            self._db.execute(statement, values)

    def _add(self, statement: str, *values: Any) -> int:
        with self._db:
            return int(self._db.execute(statement, values).lastrowid or 0)

    def _insert(self, names: str, *values: Any) -> int:
        marks = ", ".join("?" * len(values))
        return int(self._db.execute(f"INSERT INTO turn ({names}) VALUES ({marks})", values).lastrowid or 0)
