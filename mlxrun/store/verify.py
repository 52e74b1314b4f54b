"""Whether a model on disk is what was once fetched: every file's digest where one is known, else its structure.

The hub names a file by its digest: SHA-256 where it is large, Git's SHA-1 of a blob where it is small. The starter's is
known. Of other folders and files nobody knows a digest; their headers must agree with their sizes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..spec import ModelError
from ..weights import open_checkpoint
from . import hub, pull, starter

BLOCK = 8 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")
GIT = re.compile(r"[0-9a-f]{40}")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CheckedFile:
    file: str
    fault: str | None  # None: it is what it should be
    digest: bool = True  # a digest was known


def verify(place: Path, progress: Progress = lambda done, total: None) -> Iterator[CheckedFile]:
    """`place`: a folder or a .gguf file."""
    folder = hub.snapshot_of(place)
    if folder is not None:
        parts = pull.parts_of(place)
        yield from _snapshot(folder, parts[1] if parts is not None else _all_of(folder), progress)
        return
    if place.name == starter.FILE:
        good = starter.present(place) and _digest(place, hashlib.sha256(), Total(place.stat().st_size, progress))
        yield CheckedFile(place.name, None if good == starter.SHA256 else "its SHA-256 is not the one we know")
        return
    try:
        open_checkpoint(place)
    except ModelError as error:
        yield CheckedFile(place.name, str(error).rstrip("."), digest=False)
    else:
        yield CheckedFile(place.name, None, digest=False)


class Total:
    """Progress over several files."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


def _all_of(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if not file.is_dir()]


def _snapshot(folder: Path, names: list[str], progress: Progress) -> Iterator[CheckedFile]:
    total = Total(sum((folder / name).stat().st_size for name in names if (folder / name).exists()), progress)
    for name in names:
        file = folder / name
        if not file.exists():
            yield CheckedFile(name, "it is missing")
            continue
        wanted = file.resolve().name
        if SHA256.fullmatch(wanted):
            found = _digest(file, hashlib.sha256(), total)
        elif GIT.fullmatch(wanted):
            blob = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
            found = _digest(file, blob, total)
        else:
            yield CheckedFile(name, None, digest=False)
            continue
        yield CheckedFile(name, None if found == wanted else "its digest is not the one that the hub gave")


def _digest(file: Path, digest: hashlib._Hash, total: Total) -> str:
    try:
        with file.open("rb") as source:
            while block := source.read(BLOCK):
                digest.update(block)
                total.add(len(block))
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return digest.hexdigest()


def forget(place: Path, damaged: list[str]) -> None:
    """Take damaged files away, so that fetching the model anew fetches them; only of what can be fetched."""
    folder = hub.snapshot_of(place) or place
    if place.name == starter.FILE:
        place.unlink(missing_ok=True)
        return
    for name in damaged:
        link = folder / name
        blob = link.resolve()
        link.unlink(missing_ok=True)
        if hub.repository_of(place) in blob.parents and blob.parent.name == "blobs":
            os.unlink(blob) if blob.exists() else None
