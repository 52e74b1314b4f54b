"""How far a model is that is being fetched, by what lies where it arrives: no library that fetches is asked.

One that keeps what comes in elsewhere until it is whole shows as nothing, then all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Coming:
    """What is about to be fetched."""

    folder: Path  # where it arrives
    bytes: int
    digest: str | None = None  # SHA-256 of its largest file, where somebody says


Told = Callable[[Coming], None]


def tell_nobody(_: Coming) -> None:
    """Whoever waits sees no more than that it takes time."""


class Arriving:
    def __init__(self, coming: Coming) -> None:
        self.coming = coming
        self._before = held(coming.folder)

    @property
    def arrived(self) -> int:
        """Bytes of those that are coming."""
        return max(0, min(self.coming.bytes, held(self.coming.folder) - self._before))


def held(folder: Path) -> int:
    return sum(size(file) for file in folder.rglob("*"))


def size(file: Path) -> int:
    try:
        return 0 if file.is_symlink() else file.stat().st_size if file.is_file() else 0
    except OSError:  # it has just been moved
        return 0
