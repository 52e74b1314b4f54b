"""Taking a model off this machine: its files where they are ours or the hub's, and what was made of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..engine import ready
from ..settings import Settings
from ..spec import ModelError
from ..weights.files import key_of
from . import catalogue, hub, starter


def remove(name: str, settings: Settings) -> int:
    """Bytes that are free now. A folder of somebody's own is left alone; only what was made of it goes."""
    place = where(name, settings)
    if place is None:
        raise ModelError(f"There is no model {name!r} on this machine.")
    freed = _forget_made(place, settings)
    mine = place.parent == settings.models.resolve()
    owned = hub.repository_of(place) or (place if mine else None)
    if owned is None:
        if freed:
            return freed
        raise ModelError(f"{place} is not in the model store; delete it yourself if you mean to.")
    freed += size_of(owned)
    try:
        shutil.rmtree(owned) if owned.is_dir() and not owned.is_symlink() else owned.unlink()
    except OSError as error:
        raise ModelError(f"{owned} could not be removed: {error.strerror or error}.") from error
    return freed


def _forget_made(place: Path, settings: Settings) -> int:
    """Bytes of quantized copies, and of what was made ready of them and of the model itself."""
    copies = list(settings.quantized.glob(f"{key_of(place)}-*"))
    made = [file for model in (place, *copies) for file in ready.of_place(settings.ready, model)]
    freed = sum(size_of(item) for item in (*made, *copies))
    for file in made:
        file.unlink(missing_ok=True)
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
    return freed


def where(name: str, settings: Settings) -> Path | None:
    """What is here of that name; nothing is fetched, and nothing need be whole."""
    if name == starter.NAME:
        target = settings.models.resolve() / starter.FILE
        return target if target.exists() else None
    plain = name not in ("", ".", "..") and Path(name).name == name
    if plain and os.path.lexists(settings.models / name):
        return settings.models.resolve() / name
    path = Path(name).expanduser()
    if name and path.exists():
        return path.resolve()  # or `..` would lead to what is not meant
    return catalogue.here(name) or (hub.cached(name) if hub.is_id(name) else None)


def size_of(place: Path) -> int:
    """Of a file, or of all files in a folder; what is linked counts once, where it lies."""
    if place.is_dir() and not place.is_symlink():
        return sum(file.lstat().st_size for file in place.rglob("*") if not file.is_dir())
    return place.lstat().st_size
