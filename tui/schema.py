"""The file that conversations are in: its tables, how an older file becomes one of today, and how it is opened.

Files are migrated up, each version in one transaction, so that kill -9 leaves the old one or the new; never down.
Messages are a tree: `parent` is the message that one answers or follows, `leaf` the end of the branch that is read.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

VERSION = 3
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS session (
  id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL DEFAULT '', named INTEGER NOT NULL DEFAULT 0,
  draft TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, deleted INTEGER NOT NULL DEFAULT 0,
  leaf INTEGER, wishes TEXT NOT NULL DEFAULT '', tags TEXT NOT NULL DEFAULT '', draft_files TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS turn (
  id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
  role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT NOT NULL DEFAULT '', thought REAL NOT NULL DEFAULT 0,
  model TEXT NOT NULL DEFAULT '', finish TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
  tokens INTEGER NOT NULL DEFAULT 0, rate REAL NOT NULL DEFAULT 0,
  parent INTEGER, prompt INTEGER NOT NULL DEFAULT 0, cached INTEGER NOT NULL DEFAULT 0, first REAL NOT NULL DEFAULT 0,
  keeps INTEGER NOT NULL DEFAULT 0, files TEXT NOT NULL DEFAULT '', calls TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS turn_of ON turn(session, id);
CREATE INDEX IF NOT EXISTS turn_under ON turn(session, parent);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA user_version = {VERSION};
"""
TABLES = {"session", "turn", "setting"}
# by the version that a file has: what makes it one of the next
STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE session ADD COLUMN leaf INTEGER",
        "ALTER TABLE session ADD COLUMN wishes TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE session ADD COLUMN tags TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE session ADD COLUMN draft_files TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE turn ADD COLUMN parent INTEGER",
        "ALTER TABLE turn ADD COLUMN prompt INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE turn ADD COLUMN cached INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE turn ADD COLUMN first REAL NOT NULL DEFAULT 0",
        "ALTER TABLE turn ADD COLUMN keeps INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE turn ADD COLUMN files TEXT NOT NULL DEFAULT ''",
        "UPDATE turn SET parent = (SELECT max(b.id) FROM turn b WHERE b.session = turn.session AND b.id < turn.id)",
        "UPDATE session SET leaf = (SELECT max(t.id) FROM turn t WHERE t.session = session.id)",
    ),
    2: ("ALTER TABLE turn ADD COLUMN calls TEXT NOT NULL DEFAULT ''",),
}


class NewerFile(sqlite3.DatabaseError):
    """Written by a later mlxrun: whole, but not ours to touch."""


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
        migrate(db)
        db.executescript(SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def migrate(db: sqlite3.Connection) -> None:
    """Up to today, where it holds anything; another terminal may be doing the same."""
    while True:
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        try:
            for statement in STEPS.get(version, ()):
                db.execute(statement)
            if version in STEPS:
                db.execute(f"PRAGMA user_version = {version + 1}")
        except sqlite3.Error:
            db.rollback()
            raise
        db.commit()
        if version not in STEPS:
            return


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
