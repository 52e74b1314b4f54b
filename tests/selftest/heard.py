"""A part's notes, taken in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxrun.selftest.notes import Notes
from mlxrun.selftest.watch import Heard


def notes_of(part: Callable[[Notes], str], *, seconds: float = 300.0, quick: bool = True) -> tuple[str, Heard, Notes]:
    """What it said at its end, what it wrote down, and the notes with what was wrong."""
    heard = Heard()
    notes = Notes(lambda line: heard.take(line.encode()), quick=quick, seconds=seconds)
    said = part(notes)
    assert not heard.garbled
    return said, heard, notes


def check_of(heard: Heard, name: str) -> dict[str, Any]:
    return next(check for check in heard.checks if check["name"] == name)
