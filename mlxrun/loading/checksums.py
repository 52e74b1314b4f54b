"""Whether a ready file still holds what was written into it: a CRC-32 of every block of its data, kept in its header.

A CRC finds what a disk or a partial write does to a block. It is no seal: who can write the file can write its sums.
A file is read through once in the background after it is opened, slowly; how far is remembered beside it by inode,
size and time, so that short runs add up. After a week it is read again: a disk that forgets changes no time.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..memory.machine import available_bytes

BLOCK = 16 << 20
PIECE = 1 << 20  # read at once
SHARE = 0.1  # of the time, in the background
AGAIN = 7 * 24 * 3600  # seconds after which a file is read through once more
SAVE = 2.0  # seconds between two notes of how far
CHECKED = ".checked.json"  # beside the files


class Summed:
    """A file to write into that keeps the sums of what goes through it."""

    def __init__(self, sink: Any) -> None:
        self._sink, self._sum, self._left = sink, 0, BLOCK
        self._sums: list[int] = []

    def write(self, data: bytes | memoryview) -> None:
        self._sink.write(data)
        rest = memoryview(data)
        while len(rest):
            part, rest = rest[: self._left], rest[self._left :]
            self._sum, self._left = zlib.crc32(part, self._sum), self._left - len(part)
            if not self._left:
                self._end()

    def sums(self) -> list[int]:
        """Of all blocks; the last may be short. Nothing more is written."""
        if self._left < BLOCK:
            self._end()
        return self._sums

    def _end(self) -> None:
        self._sums.append(self._sum)
        self._sum, self._left = 0, BLOCK


def written(sums: Sequence[int]) -> str:
    return "".join(f"{one:08x}" for one in sums)


def read(text: str, size: int) -> tuple[int, ...]:
    """Of so many bytes of data. ValueError where there are not as many sums as blocks."""
    found = tuple(int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    if len(text) != 8 * len(found) or len(found) != -(-size // BLOCK):
        raise ValueError("there are not as many sums as blocks")
    return found


@dataclass(frozen=True, slots=True)
class Blocks:
    """Of one file as it was opened."""

    path: Path
    identity: tuple[int, int, int]  # inode, size, time of change
    start: int  # of the first block
    sums: tuple[int, ...]


def identity_of(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def check(blocks: Blocks, first: int = 0, paused: Callable[[float], bool] = lambda seconds: False) -> Iterator[int]:
    """Reads on from that block and says how many are right so far; Damaged where one is not. `paused` is told after
    every piece how long it took, and ends this by True. Another file of that name is left alone."""
    with blocks.path.open("rb", buffering=0) as file:
        if identity_of(os.fstat(file.fileno())) != blocks.identity:
            return
        large = blocks.identity[1] > available_bytes() // 2
        for number in range(first, len(blocks.sums)):
            at, total = blocks.start + number * BLOCK, 0
            end = min(at + BLOCK, blocks.identity[1])
            while at < end:
                began = time.perf_counter()
                piece = os.pread(file.fileno(), min(PIECE, end - at), at)
                if not piece:
                    break
                total = zlib.crc32(piece, total)
                if large and hasattr(os, "posix_fadvise"):  # others need the memory more; mapped pages stay
                    os.posix_fadvise(file.fileno(), at, len(piece), os.POSIX_FADV_DONTNEED)
                at += len(piece)
                if paused(time.perf_counter() - began):
                    return
            if at < end or total != blocks.sums[number]:
                raise Damaged(number, len(blocks.sums))
            yield number + 1


class Damaged(Exception):
    def __init__(self, number: int, count: int) -> None:
        super().__init__(f"block {number + 1} of {count} is not what was written")


# ---- in the background --------------------------------------------------------------------------


class BackgroundCheck:
    """Reads one file through on a thread of the lowest priority, a tenth of the time."""

    def __init__(self, blocks: Blocks) -> None:
        self.fault: str | None = None
        self._blocks, self._stop = blocks, threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlxrun-check", daemon=True)

    def start(self) -> None:
        if checked(self._blocks) < len(self._blocks.sums):
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere it is the whole process's
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        right = first = checked(self._blocks)
        saved = time.perf_counter()
        try:
            for right in check(self._blocks, first, lambda took: self._stop.wait(took * (1 / SHARE - 1))):
                if time.perf_counter() - saved > SAVE:
                    saved = time.perf_counter()
                    remember(self._blocks, right)
        except Damaged as damage:
            self.fault = str(damage)
        except OSError as error:
            self.fault = f"it cannot be read ({error.strerror or error})" if self._blocks.path.exists() else None
        if right > first:
            remember(self._blocks, right)


# ---- what is remembered -------------------------------------------------------------------------


def checked(blocks: Blocks) -> int:
    """How many blocks from the first one on were found right, and need not be read again yet."""
    told = _notes(blocks.path.parent).get(blocks.path.name)
    match told:
        case {"file": file, "blocks": int(count), "at": float(at) | int(at)}:
            fresh = 0 <= time.time() - at < AGAIN or count < len(blocks.sums)
            if file == list(blocks.identity) and fresh and 0 <= count <= len(blocks.sums):
                return count
    return 0


def remember(blocks: Blocks, count: int) -> None:
    """Two at once may forget one another's note; then a file is read once more."""
    folder = blocks.path.parent
    notes = {name: note for name, note in _notes(folder).items() if (folder / name).exists()}
    notes[blocks.path.name] = {"file": blocks.identity, "blocks": count, "at": time.time()}
    aside = folder / f"{CHECKED}.{os.getpid()}"
    try:
        aside.write_text(json.dumps(notes))
        os.replace(aside, folder / CHECKED)
    except OSError:  # the folder is gone, or full
        with suppress(OSError):
            aside.unlink()


def _notes(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CHECKED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
