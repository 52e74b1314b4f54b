"""Room on a disk: told before something large is written, and when it ran out all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..spec import ModelError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def free_in(folder: Path) -> int:
    """Bytes; of a folder that is not there yet, where it would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def need_room(what: object, size: int, folder: Path, otherwise: str) -> None:
    """`otherwise`: what one can do besides freeing some."""
    free = free_in(folder)
    if size > free:
        raise ModelError(
            f"{what} takes {in_words(size)}, and {in_words(free)} are free in {folder}: free some room there, or "
            f"{otherwise}."
        )


@contextmanager
def told_when_full(what: object, folder: Path, otherwise: str) -> Iterator[None]:
    """A disk that fills, or a quota or limit that is reached, while `what` is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ModelError(
            f"{what} could not be written whole ({error.strerror}); {in_words(free_in(folder))} are free in {folder} "
            f"without it: free some room there, or {otherwise}."
        ) from error


def in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
