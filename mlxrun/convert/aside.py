"""A folder made aside and put in its place in one step: whoever looks there finds all of it or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..spec import ModelError


@contextmanager
def made_aside(target: Path) -> Iterator[Path]:
    """A fresh folder that becomes `target` if nothing is raised, and goes away if something is."""
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        raise ModelError(f"{target} is there already; name a folder that is not, or an empty one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".making", dir=target.parent))
    try:
        yield aside
        for file in (*sorted(aside.iterdir()), aside):
            sync(file)
        aside.chmod(0o755)
        os.replace(aside, target)  # over an empty folder too
        sync(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
