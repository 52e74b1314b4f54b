"""Taking a model off this machine: its files where they are ours or the hub's, and what was made of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..settings import Settings
from ..spec import ModelError
from . import catalogue, hub, names, pull, registry, starter
from .made import forget, of_model, size_of


@dataclass(frozen=True, slots=True)
class Removed:
    model: int  # bytes of the model itself
    made: int  # bytes of what was made of it
    left: Path | None = None  # the model, where it is somebody's own and was not touched


def remove(name: str, settings: Settings) -> Removed:
    """A folder or file of somebody's own is left alone; only what was made of it goes."""
    place = where(name, settings)
    if place is None:
        raise ModelError(f"There is no model {name!r} on this machine.")
    mine = place.parent == settings.models.resolve()
    made = forget(of_model(place, settings))
    parts = pull.parts_of(place)
    if parts is not None and _others(parts):
        return Removed(sum(_unlinked(parts[0] / file) for file in parts[1]), made)
    owned = hub.repository_of(place) or (place if mine else None)
    if owned is None:
        if made:
            return Removed(0, made, place)
        raise ModelError(f"{place} is not in the model store; delete it yourself if you mean to.")
    size = size_of(owned)
    try:
        shutil.rmtree(owned) if owned.is_dir() and not owned.is_symlink() else owned.unlink()
    except OSError as error:
        raise ModelError(f"{owned} could not be removed: {error.strerror or error}.") from error
    return Removed(size, made)


def _others(parts: tuple[Path, list[str]]) -> bool:
    """Whether the snapshot holds more than these files, or the repository other snapshots."""
    folder, files = parts
    inside = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}
    return not inside <= set(files) or len(list(folder.parent.iterdir())) > 1


def _unlinked(link: Path) -> int:
    """Bytes that are free now: the blob goes with every link to it."""
    blob, repository = link.resolve(), hub.repository_of(link)
    if repository is None or blob.parent != repository.resolve() / "blobs":  # the hub's cache may hold plain files
        blob = link
    size = size_of(blob) if blob.exists() else 0
    try:
        for other in list((link if repository is None else repository / "snapshots").rglob("*")):
            if other.is_symlink() and other.resolve() == blob:
                other.unlink()
        blob.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"{link} could not be removed: {error.strerror or error}.") from error
    return size


def where(name: str, settings: Settings) -> Path | None:
    """What is here of that name; nothing is fetched, and nothing need be whole."""
    if name == starter.NAME:
        target = settings.models.resolve() / starter.FILE
        return target if target.exists() else None
    registered = registry.parse(name)
    if registered is not None:
        return registry.here(registered, replace(settings, home=settings.home.resolve()))
    plain = name not in ("", ".", "..") and Path(name).name == name
    if plain and os.path.lexists(settings.models / name):
        return settings.models.resolve() / name
    path = Path(os.path.expanduser(name))
    if name and path.exists():
        return path.resolve()  # or `..` would lead to what is not meant
    found = names.parse(name)
    return catalogue.here(name) or (pull.place_of(found) if found is not None else None)
