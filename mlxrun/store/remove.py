"""Taking a model off this machine: its files where they are ours or the hub's, and what was made of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..loading import ready
from ..settings import Settings
from ..spec import ModelError
from ..weights.files import key_of
from . import catalogue, hub, names, pull, starter


def remove(name: str, settings: Settings) -> int:
    """Bytes that are free now. A folder of somebody's own is left alone; only what was made of it goes."""
    place = where(name, settings)
    if place is None:
        raise ModelError(f"There is no model {name!r} on this machine.")
    mine = place.parent == settings.models.resolve()
    freed = sum(_forget_made(model, settings) for model in _models_in(place))
    parts = pull.parts_of(place)
    if parts is not None and _others(parts):
        return freed + sum(_unlinked(parts[0] / file) for file in parts[1])
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


def _models_in(place: Path) -> list[Path]:
    """The model itself, and the GGUF files of a snapshot of the hub."""
    inside = hub.snapshot_of(place) == place
    return [place, *(place / offer.files[0] for offer in pull.offers_in(place))] if inside else [place]


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
    found = names.parse(name)
    return catalogue.here(name) or (pull.place_of(found) if found is not None else None)


def size_of(place: Path) -> int:
    """Of a file, or of all files in a folder; what is linked counts once, where it lies."""
    if place.is_dir() and not place.is_symlink():
        return sum(file.lstat().st_size for file in place.rglob("*") if not file.is_dir())
    return place.lstat().st_size
