"""The second tier of the prefix cache: segments of prefixes in a folder that was asked for, by one thread of their own.

Nobody waits for it: what is to be written is queued or let go, what is read comes as a future. A segment that cannot
be read, or is not what it says, is dropped with all that comes after it, and counted with its reason. The folder holds
people's words: only its owner may read it, and one process at a time uses it. Knows no pages in memory and no MLX.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from .disk_index import DiskIndex, OnDisk
from .files import (
    HALF,
    SUFFIX,
    BadSegment,
    DiskSegment,
    PageLayout,
    Wanted,
    chain_hash,
    read_header,
    read_parts,
    whole,
    write_file,
)
from .siblings import Key
from .table import Group

NAMES = "[0-9a-f]" * 32  # what else lies in the folder is not ours
BLOCK = 16 << 20  # bytes of a segment, about
QUEUED = 64 << 20  # bytes that may wait to be written
SPARE = 1 << 30  # bytes that are left free on the disk
FIRST_RATE = 500e6  # bytes a second that reading is thought to bring, before any was read


class DiskRefused(ValueError):
    """A folder that cannot be used, in one sentence."""


class Lost(Exception):
    """A segment that was thought to be there cannot be had."""


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    segments: int
    bytes: int
    written: int  # segments, since the beginning; and so are all that follow
    read: int
    bytes_written: int
    bytes_read: int
    evicted: int
    skipped: int  # not written: too much was waiting, or the disk is full
    dropped: dict[str, int]  # by their reason


def block_of(page_bytes: Iterable[int]) -> int:
    """Pages a segment."""
    return max(1, BLOCK // max(1, sum(page_bytes)))


class DiskTier:
    def __init__(
        self, folder: Path, layout: PageLayout, groups: Sequence[Group], states: bool, most: int, spare: int = SPARE
    ) -> None:
        """`folder` is made, or is one that an earlier process made for this. `most`: bytes in it."""
        self.layout, self.most, self._spare = layout, most, spare
        self._folder = folder
        self._claim = claim(folder)
        self._index = DiskIndex(layout, groups, states)
        self._lock = Lock()  # of the index and the counts
        self._queued = self._written = self._read = self._bytes_written = self._bytes_read = 0
        self._evicted = self._skipped = 0
        self._dropped: Counter[str] = Counter()
        self._waiting: set[str] = set()
        self._rate = FIRST_RATE
        self._thread = ThreadPoolExecutor(1, "mlxrun-disk")
        self._looked = self._thread.submit(self._scan)

    @property
    def statistics(self) -> DiskStatistics:
        with self._lock:
            return DiskStatistics(
                segments=len(self._index),
                bytes=self._index.bytes,
                written=self._written,
                read=self._read,
                bytes_written=self._bytes_written,
                bytes_read=self._bytes_read,
                evicted=self._evicted,
                skipped=self._skipped,
                dropped=dict(self._dropped),
            )

    def root(self, scope: Hashable) -> str:
        """Two scopes share nothing. What a scope is called is not to be read from the files."""
        return chain_hash(self.layout.fingerprint, repr(scope))

    def seconds(self, size: int) -> float:
        """That reading so many bytes takes, by what it took before."""
        return size / self._rate

    def has_looked(self, seconds: float = 0.0) -> bool:
        """Whether it is known what earlier processes left; so long is waited for it."""
        wait([self._looked], seconds)
        return self._looked.done()

    def find(self, ids: Key, scope: Hashable = None) -> OnDisk | None:
        """What of these tokens is there, as far as that is known."""
        with self._lock:
            return self._index.find(self.root(scope), ids)

    def read(self, segment: DiskSegment, wanted: Sequence[Wanted]) -> Future[list[bytes]]:
        """Those of its parts. Lost: they cannot be had, and the segment was dropped."""
        return self._thread.submit(self._read_parts, segment, wanted)

    def takes(self, size: int) -> bool:
        """Whether so many bytes may wait to be written, too. False is counted."""
        with self._lock:
            fits = not self._queued or self._queued + size <= QUEUED
            self._skipped += not fits
        return fits

    def has(self, name: str) -> bool:
        """Whether that segment is there, or waits to be written."""
        with self._lock:
            return name in self._waiting or self._index.get(name) is not None

    def write(self, segment: DiskSegment, parts: Sequence[bytes]) -> Future[None]:
        with self._lock:
            self._queued += sum(map(len, parts))
            self._waiting.add(segment.name)
        return self._thread.submit(self._write, segment, parts)

    def drop(self, segment: DiskSegment, reason: str) -> None:
        """It and all that comes after it."""
        with self._lock:
            gone = self._index.remove(segment)
            if gone:
                self._dropped[reason] += len(gone)
        for one in gone:
            self._unlink(one.name)

    def settle(self) -> None:
        """Waits until all that was asked for is done."""
        self._thread.submit(int).result()

    def close(self) -> None:
        """What is queued is written first."""
        self._thread.shutdown()
        self._claim.close()

    def _scan(self) -> None:
        """What earlier processes left. Runs on the thread, as all that follows does."""
        for half in self._folder.glob(f"{NAMES}{HALF}"):
            self._unlink(half.stem, HALF)
        found: list[tuple[float, int, DiskSegment]] = []
        for file in self._folder.glob(f"{NAMES}{SUFFIX}"):
            try:
                held = file.stat(follow_symlinks=False)
                segment = read_header(file, self.layout)
                if not self._index.is_whole(segment):
                    raise BadSegment("pages are missing in it")
                found.append((held.st_mtime, held.st_size, segment))
            except (OSError, BadSegment) as error:
                with self._lock:
                    self._dropped[why(error)] += 1
                self._unlink(file.stem)
        with self._lock:
            for _, size, segment in sorted(found, key=lambda one: one[0]):  # the longest unused first
                self._index.add(segment, size)
        for _, _, segment in found:
            if segment.parent and self._index.get(segment.parent) is None:
                self.drop(segment, "what comes before it is gone")
        self._make_room(0)

    def _read_parts(self, segment: DiskSegment, wanted: Sequence[Wanted]) -> list[bytes]:
        file = self._folder / f"{segment.name}{SUFFIX}"
        began = time.perf_counter()
        try:
            parts = read_parts(file, segment, wanted)
            os.utime(file, follow_symlinks=False)
        except (OSError, BadSegment) as error:
            self.drop(segment, why(error))
            raise Lost(f"{segment.name}: {why(error)}") from None
        size, took = sum(map(len, parts)), time.perf_counter() - began
        with self._lock:
            if self._index.get(segment.name) is not None:
                self._index.touch(segment)
            self._read += 1
            self._bytes_read += size
            if took > 0 and size:
                self._rate += 0.3 * (size / took - self._rate)
        return parts

    def _write(self, segment: DiskSegment, parts: Sequence[bytes]) -> None:
        try:
            with self._lock:
                known, shorter = self._index.get(segment.name), self._index.shorter(segment)
            if known is None or (segment.covers(known) and not known.covers(segment)):
                self._write_new(segment, shorter, whole(segment, parts))
        except OSError as error:
            with self._lock:
                self._skipped += 1
                self._dropped[why(error)] += 1
        finally:
            with self._lock:
                self._queued -= sum(map(len, parts))
                self._waiting.discard(segment.name)

    def _write_new(self, segment: DiskSegment, shorter: list[DiskSegment], content: Sequence[bytes]) -> None:
        """Only after what it follows: nobody would find it otherwise."""
        size = sum(map(len, content))
        with self._lock:
            before = self._index.get(segment.parent)
            if before is not None:
                self._index.touch(before)
        if not self._make_room(size) or (segment.parent and self._index.get(segment.parent) is None):
            with self._lock:
                self._skipped += 1
            return
        write_file(self._folder, segment.name, content)
        with self._lock:
            self._index.add(segment, size)
            self._written += 1
            self._bytes_written += size
        for other in shorter:
            with self._lock:
                self._index.remove(other)
            self._unlink(other.name)

    def _make_room(self, size: int) -> bool:
        """For so many bytes more; the longest unused go. False: there is none."""
        with self._lock:
            gone: list[DiskSegment] = []
            for segment in self._index.oldest():
                if self._index.bytes + size <= self.most:
                    break
                gone += self._index.remove(segment)
            self._evicted += len(gone)
            fits = self._index.bytes + size <= self.most
        for segment in gone:
            self._unlink(segment.name)
        return fits and shutil.disk_usage(self._folder).free - size >= self._spare

    def _unlink(self, name: str, suffix: str = SUFFIX) -> None:
        with suppress(OSError):
            (self._folder / f"{name}{suffix}").unlink()


def why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


def claim(folder: Path) -> IO[bytes]:
    """Makes it ours alone, until what comes back is closed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = folder.lstat()
        if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid():
            raise DiskRefused(f"{folder} is no folder of yours, so no prefixes are kept there.")
        if stat.S_IMODE(held.st_mode) & 0o077:
            raise DiskRefused(f"{folder} can be read by others, so no prefixes are kept there: chmod 700 it first.")
        lock = os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
    except OSError as error:
        raise DiskRefused(f"{folder} cannot be used for prefixes: {error.strerror or error}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise DiskRefused(f"{folder} is used by another process, so no prefixes are kept there.") from None
    return lock
