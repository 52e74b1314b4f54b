"""One file mapped into memory by whole pages, and the parts of it that MLX adopts: the way of Metal, which takes a
buffer without copying only where it begins and ends with a page.

One mapping a file, and no descriptor is held: a process may have few, and a checkpoint has hundreds of tensors. A
mapping may reach past the file's end, to whole pages, which Python's own cannot. It lives as long as an array that is a
view of it. Knows no tensor. Never run on a Mac; tests run it on Linux with a Mac's page size.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..ops.native import native

WORD = 8  # bytes of what MLX adopts: an axis of bytes could not span a large file
MOST_WORDS = 2**31 - 1  # of an axis
PIECE = 64 << 20  # bytes that are brought in at once
MAP_FIXED = 0x10  # on Linux and macOS, which Python does not name


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of whole pages of a file, in bytes."""

    start: int
    end: int


def windows(places: Iterable[tuple[int, int]], page: int, longest: int) -> list[Window]:
    """Stretches of at most `longest` bytes that have those (start, end) in them. Two may share a page, so that nothing
    lies in two halves; what is longer than that by itself is in none."""
    most = min(longest, MOST_WORDS * WORD) // page * page
    found: list[Window] = []
    for start, end in sorted(places):
        low, high = start // page * page, -(-end // page) * page
        if high - low > most:
            continue
        if found and high - found[-1].start <= most:
            found[-1] = Window(found[-1].start, max(found[-1].end, high))
        else:
            found.append(Window(low, high))
    return found


class FilePages:
    """OSError where the system maps no such file; ValueError where it has another size by now."""

    def __init__(self, file: Path, size: int, page: int = mmap.PAGESIZE) -> None:
        self.file, self.size = file, size
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._seen = os.fstat(descriptor)
            if self._seen.st_size != size or not size:
                raise ValueError(f"{file.name} has {self._seen.st_size} bytes, not {size}")
            self._map(descriptor, page)
        finally:
            os.close(descriptor)  # a mapping needs none

    def _map(self, descriptor: int, page: int) -> None:
        room = -(-self.size // page) * page + page
        # pages of nobody's first, so that whole pages are there behind the file's end whatever the machine's own are
        base = _map(None, room, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        kept: list[Any] = []
        weakref.finalize(self, _unmap, base, room, kept).atexit = False  # arrays may outlive the interpreter
        self.address = -(-base // page) * page
        _map(self.address, self.size, mmap.MAP_SHARED | MAP_FIXED, descriptor)
        if native is not None:
            kept.append(native.Guard(self.address, self.size, str(self.file).encode("utf-8", "replace").decode()))
        self._guards = kept

    def words(self, window: Window) -> np.ndarray:
        """uint64, read-only; keeps the mapping."""
        return np.asarray(_Words(self, window))

    @property
    def lost(self) -> bool:
        """A page could not be read; without the native library the system ends the process there."""
        return any(guard.lost for guard in self._guards)

    @property
    def unchanged(self) -> bool:
        """As far as its name still leads to it: another file of that name is no change of this one."""
        if self.lost:
            return False
        try:
            now = os.stat(self.file)
        except OSError:  # gone, and what was mapped is still there
            return True
        if (now.st_dev, now.st_ino) != (self._seen.st_dev, self._seen.st_ino):
            return True
        return (now.st_size, now.st_mtime_ns) == (self._seen.st_size, self._seen.st_mtime_ns)


def bring_in(address: int, size: int) -> Iterator[int]:
    """Look at a byte of every page that those bytes lie on; says how many of them are in memory by now."""
    first, end = address // mmap.PAGESIZE * mmap.PAGESIZE, address + size
    for at in range(first, end, PIECE):
        low, high = max(at, address), min(at + PIECE, end)  # a page's beginning may be another's
        seen = _Bytes(low, high - low).array
        seen[:: mmap.PAGESIZE].max()
        seen[-1].max()  # a step may have passed over the last page
        yield high - address


class _Bytes:
    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {"data": (address, True), "shape": (size,), "typestr": "|u1", "version": 3}
        self.array = np.asarray(self)


class _Words:
    def __init__(self, pages: FilePages, window: Window) -> None:
        self._pages = pages  # whoever has the array has this
        count = (window.end - window.start) // WORD
        data = (pages.address + window.start, True)  # read-only
        self.__array_interface__ = {"data": data, "shape": (count,), "typestr": "<u8", "version": 3}


@cache
def _system() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    integer, size, pointer = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
    library.mmap.restype, library.mmap.argtypes = pointer, (pointer, size, integer, integer, integer, ctypes.c_int64)
    library.munmap.argtypes = (pointer, size)
    return library


def _map(address: int | None, length: int, flags: int, descriptor: int) -> int:
    found = _system().mmap(address, length, mmap.PROT_READ, flags, descriptor, 0)
    if found is None or found == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def _unmap(base: int, length: int, guards: list[Any]) -> None:
    guards.clear()  # before another mapping may lie there
    _system().munmap(base, length)
