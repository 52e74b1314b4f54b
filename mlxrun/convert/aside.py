"""A folder or file made aside and put in its place in one step: whoever looks there finds all of it or nothing.

What is being made is locked by who makes it, and the system lets go of the lock with the process, however that ends:
so the next try knows what nobody works on any more, and takes it away. Where a file system knows no locks it stays.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..memory.disk import told_when_full
from ..spec import ModelError

MAKING = ".making"
ELSEWHERE = "write to another disk"


@contextmanager
def write_aside(target: Path, *, folder: bool = True) -> Iterator[Path]:
    """A fresh folder, or an empty file, that becomes `target` if nothing is raised, and goes away if something is."""
    refuse_taken(target, folder)
    with told_when_full(target, target.parent, ELSEWHERE):
        target.parent.mkdir(parents=True, exist_ok=True)
        forget_dead(target)
        aside, lock = _fresh(target, folder)
        try:
            yield aside
            for file in (*(sorted(aside.iterdir()) if folder else ()), aside):
                sync(file)
            aside.chmod(0o755 if folder else 0o644)
            os.replace(aside, target)  # over an empty folder too
            sync(target.parent)
        except BaseException:
            _remove(aside)
            raise
        finally:
            os.close(lock)


def refuse_taken(target: Path, folder: bool) -> None:
    empty = folder and target.is_dir() and not any(target.iterdir())
    if os.path.lexists(target) and not empty:
        other = "folder that is not, or an empty one" if folder else "file that is not"
        raise ModelError(f"{target} is there already; name a {other}.")


def forget_dead(target: Path) -> None:
    """What earlier tries at that target left behind, of processes that are gone."""
    for left in list(target.parent.iterdir()):
        if left.name.startswith(f".{target.name}.") and left.name.endswith(MAKING):
            with suppress(OSError):  # somebody is making it, or took it away just now
                lock = _locked(left)
                try:
                    _remove(left)
                finally:
                    os.close(lock)


def _fresh(target: Path, folder: bool) -> tuple[Path, int]:
    """(the place, its lock). Somebody may have taken it for a dead one's before it was locked; then another."""
    start = f".{target.name}."
    while True:
        if folder:
            aside = Path(tempfile.mkdtemp(MAKING, start, target.parent))
            lock = os.open(aside, os.O_RDONLY)
        else:
            lock, name = tempfile.mkstemp(MAKING, start, target.parent)
            aside = Path(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = True
        except OSError:  # no locks here
            taken = False
        else:
            taken = not aside.exists()
        if not taken:
            return aside, lock
        os.close(lock)


def _locked(left: Path) -> int:
    lock = os.open(left, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not (stat.S_ISDIR(mode := os.fstat(lock).st_mode) or stat.S_ISREG(mode)):
            raise OSError(f"{left} is none of ours")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _remove(aside: Path) -> None:
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
