"""Kept answers in a file, for the next start: SQLite in a folder that its owner alone can read."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import RequestError

if TYPE_CHECKING:
    from .stored import Record

NAME = "responses.sqlite3"
TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, kept_at REAL NOT NULL, response BLOB NOT NULL, input BLOB NOT NULL, items TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS responses_kept_at ON responses (kept_at);
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, response TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS items_response ON items (response);
"""
Row = tuple[str, float, bytes, bytes, tuple[str, ...]]


class StoredFile:
    """For any thread. What is too old, or more than `limit` bytes, is gone after the next one is put."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / NAME
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._base.executescript(f"PRAGMA secure_delete=ON; PRAGMA synchronous=NORMAL; {TABLES}")
        except (OSError, sqlite3.Error) as error:
            raise RequestError(f"--store {folder}: answers cannot be kept there: {error}.") from error

    def put(self, record: Record, oldest: float) -> None:
        with self._lock, self._base:
            self._base.execute("BEGIN")
            row = (record.id, record.kept_at, record.response, record.input, "\n".join(record.items))
            self._base.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?)", row)
            self._base.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?)", [(item, record.id) for item in record.items]
            )
            self._base.execute("DELETE FROM responses WHERE kept_at < ?", (oldest,))
            while self._size() > self._limit:
                self._base.execute(
                    "DELETE FROM responses WHERE id = (SELECT id FROM responses ORDER BY kept_at LIMIT 1)"
                )
            self._base.execute("DELETE FROM items WHERE response NOT IN (SELECT id FROM responses)")

    def find(self, name: str, oldest: float) -> Row | None:
        query = "SELECT id, kept_at, response, input, items FROM responses WHERE id = ? AND kept_at >= ?"
        with self._lock:
            row = self._base.execute(query, (name, oldest)).fetchone()
        return None if row is None else (*row[:4], tuple(row[4].split("\n")))

    def holder(self, item: str) -> str | None:
        with self._lock:
            row = self._base.execute("SELECT response FROM items WHERE id = ?", (item,)).fetchone()
        return None if row is None else str(row[0])

    def delete(self, name: str) -> None:
        with self._lock, self._base:
            self._base.execute("BEGIN")
            self._base.execute("DELETE FROM responses WHERE id = ?", (name,))
            self._base.execute("DELETE FROM items WHERE response = ?", (name,))

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def _size(self) -> int:
        query = "SELECT COALESCE(SUM(LENGTH(response) + LENGTH(input)), 0) FROM responses"
        return int(self._base.execute(query).fetchone()[0])
