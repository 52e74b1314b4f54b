"""Answers that are kept to be gone on from: in memory, bounded in bytes and in time; on disk only where told so.

What was not used for longest goes first. They are people's words: nothing else is written anywhere, and files are
their owner's alone. Knows no dialect but that a response has an `id`, perhaps a `previous_response_id`, and items.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import encode
from .stored_file import StoredFile

LOG = logging.getLogger("mlxrun.server")
LIMIT = 512 << 20  # bytes
SECONDS = 24 * 3600.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """An answer as it is kept."""

    id: str  # an owner's before it, where there is one
    kept_at: float
    response: bytes
    input: bytes  # the items of its own request
    items: tuple[str, ...]  # ids of all items, asked and answered

    @property
    def size(self) -> int:
        return len(self.response) + len(self.input)

    def told(self) -> Json:
        told: Json = json.loads(self.response)
        return told

    def asked(self) -> list[Json]:
        asked: list[Json] = json.loads(self.input)
        return asked


class StoredAnswers:
    """For any thread. `owner`: who asks, where several keys are to be told apart; nobody sees another's."""

    def __init__(
        self,
        folder: Path | None = None,
        limit: int = LIMIT,
        seconds: float = SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._limit, self._seconds, self._now = limit, seconds, now
        self._lock = threading.Lock()
        self._records: OrderedDict[str, Record] = OrderedDict()  # last used last
        self._holders: dict[str, str] = {}  # item -> record
        self._size = 0
        self._file = None if folder is None else StoredFile(folder, limit)
        self._writer = None if folder is None else ThreadPoolExecutor(1, "mlxrun-stored")

    def keep(self, response: Json, asked: bytes, asked_ids: Sequence[str], owner: str = "") -> None:
        """`asked`: the items of its own request, as JSON. Never waits for a disk."""
        ids = tuple(owned(owner, name) for name in (*asked_ids, *(item["id"] for item in response["output"])))
        record = Record(owned(owner, response["id"]), self._now(), encode(response), asked, ids)
        with self._lock:
            self._put(record)
        self._later(lambda file: file.put(record, self._now() - self._seconds))

    def find(self, name: str, owner: str = "") -> Record | None:
        return self._find(owned(owner, name))

    def _find(self, name: str) -> Record | None:
        with self._lock:
            self._let_go()
            record = self._records.get(name)
            if record is not None:
                self._records.move_to_end(name)
                return record
        if self._file is None:
            return None
        found = self._file.find(name, self._now() - self._seconds)
        return None if found is None else Record(*found)

    def chain(self, name: str, owner: str = "") -> list[Record] | None:
        """That answer and all before it that it went on from, the oldest first; None: one is not kept any more."""
        records: list[Record] = []
        wanted: str | None = name
        while wanted is not None:
            record = self.find(wanted, owner)
            if record is None:
                return None
            records.append(record)
            wanted = record.told().get("previous_response_id")
        return records[::-1]

    def item(self, name: str, owner: str = "") -> Json | None:
        own = owned(owner, name)
        with self._lock:
            holder = self._holders.get(own)
        if holder is None and self._file is not None:
            holder = self._file.holder(own)
        record = None if holder is None else self._find(holder)
        if record is None:
            return None
        return next((item for item in (*record.asked(), *record.told()["output"]) if item["id"] == name), None)

    def delete(self, name: str, owner: str = "") -> bool:
        name = owned(owner, name)
        there = self._find(name) is not None
        with self._lock:
            self._drop(name)
        written = self._later(lambda file: file.delete(name))
        if written is not None:
            written.result()  # what is forgotten is gone when that is told
        return there

    def close(self) -> None:
        if self._writer is not None and self._file is not None:
            self._writer.shutdown()
            self._file.close()

    def _later(self, work: Callable[[StoredFile], None]) -> Future[None] | None:
        if self._writer is None or self._file is None:
            return None
        written = self._writer.submit(work, self._file)
        written.add_done_callback(warn)
        return written

    def _put(self, record: Record) -> None:
        self._drop(record.id)
        self._records[record.id] = record
        self._holders.update(dict.fromkeys(record.items, record.id))
        self._size += record.size
        self._let_go()

    def _let_go(self) -> None:
        oldest = self._now() - self._seconds
        for name in [name for name, record in self._records.items() if record.kept_at < oldest]:
            self._drop(name)
        while self._size > self._limit:
            self._drop(next(iter(self._records)))

    def _drop(self, name: str) -> None:
        record = self._records.pop(name, None)
        if record is None:
            return
        self._size -= record.size
        for item in record.items:
            if self._holders.get(item) == name:
                del self._holders[item]


def owned(owner: str, name: str) -> str:
    return f"{owner}:{name}" if owner else name


def warn(written: Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        LOG.warning("an answer was not kept on disk: %s", error)
