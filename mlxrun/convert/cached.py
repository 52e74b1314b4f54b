"""A quantized copy of a model, made once with what `convert` has and kept until the model changes.

The copy is a folder as `convert --quantize` writes it, so it loads like any other. Its name tells the model's files
with their sizes and times, and the layout; a note beside it says the same in words (`provenance`). An older copy of the
same model and layout goes when a new one is made. Copies beyond a bound go too, the longest unused first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..loading.provenance import COPIES, MadeFrom, note, seen
from ..loading.ready import alone
from ..spec import ModelError
from ..weights import Checkpoint
from ..weights.files import digest, key_of
from .folder import convert_folder
from .stream import Progress
from .weight_layout import Wanted

MOST = 64 << 30  # bytes of all copies


def make_quantized_copy(
    checkpoint: Checkpoint, wanted: Wanted, folder: Path, *, progress: Progress | None = None
) -> Path:
    """The copy in `folder`, made if it is not there."""
    checkpoint = checkpoint.read_as("fine")
    target = folder / name_of(checkpoint, wanted)
    try:
        if not target.is_dir():
            with alone(folder):
                if not target.is_dir():  # somebody else made it while we waited
                    _make(checkpoint, target, wanted, progress)
    except OSError as error:
        raise ModelError(f"{folder} could not be written: {error.strerror or error}.") from error
    with suppress(OSError):
        os.utime(target)  # the longest unused goes first
    return target


def _make(checkpoint: Checkpoint, target: Path, wanted: Wanted, progress: Progress | None) -> None:
    folder = target.parent
    for half in folder.glob(".*.making"):  # of who was killed; nobody else is making one now
        shutil.rmtree(half, ignore_errors=True)
    note(target, MadeFrom(checkpoint.path.absolute(), tuple(_seen(checkpoint)), COPIES))
    convert_folder(checkpoint, target, wanted=wanted, progress=progress)
    stale = [old for old in folder.glob(f"{key_of(checkpoint.path)}-*{_suffix(wanted)}") if old != target]
    _forget(folder, keep=target, stale=stale)


def _forget(folder: Path, keep: Path, stale: Sequence[Path], most: int = MOST) -> None:
    for old in stale:
        shutil.rmtree(old, ignore_errors=True)
    copies = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda copy: copy.stat().st_mtime_ns)
    sizes = {copy: sum(file.stat().st_size for file in copy.iterdir()) for copy in copies}
    total = sum(sizes.values())
    for old in copies:
        if total > most and old != keep:
            total -= sizes[old]
            shutil.rmtree(old, ignore_errors=True)


def name_of(checkpoint: Checkpoint, wanted: Wanted) -> str:
    identity = [f"{COPIES} {checkpoint.dialect}", *_seen(checkpoint)]
    return f"{key_of(checkpoint.path)}-{digest(chr(10).join(identity))}{_suffix(wanted)}"


def _seen(checkpoint: Checkpoint) -> list[str]:
    place = checkpoint.path
    beside = [file for file in place.iterdir() if file.is_file()] if place.is_dir() else []
    return [seen(file) for file in sorted({file.resolve() for file in (*checkpoint.files, *beside)})]


def _suffix(wanted: Wanted) -> str:
    how, words = wanted.usual, "" if wanted.words is None else f"-w{wanted.words.bits}"
    return f"-{how.mode}-{how.bits}-{how.group}{words}{'-kept' * wanted.keep}"
