"""From the name that a person types to a folder or a .gguf file on this machine.

`smollm2` is the starter model. Else what exists wins: a path, then a name in the model store, then a
short name of the catalogue. What looks like org/name is of the Hugging Face hub. Knows nothing of what is
inside the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..settings import Settings, from_environment
from ..spec import ModelError
from . import catalogue, far, hub, starter


def resolve(name: str, settings: Settings | None = None) -> Path:
    place = _where(name, settings or from_environment())
    return place if isinstance(place, Path) else hub.snapshot(place)


@contextmanager
def headers_of(name: str, settings: Settings | None = None) -> Iterator[tuple[Path, bool]]:
    """Where its headers can be read, and whether the model itself is here; nothing large is fetched for it."""
    place = far_away(name, settings or from_environment())
    if isinstance(place, Path):
        yield place, True
        return
    with far.outlined(place) as outline:
        yield outline, False


def far_away(name: str, settings: Settings) -> Path | str:
    """A place on this machine, or what the hub calls it where that is not here."""
    if far.is_file(name) and not Path(name).expanduser().exists():
        return name
    place = _where(name, settings)
    return place if isinstance(place, Path) else catalogue.whole(place) or place


def _where(name: str, settings: Settings) -> Path | str:
    """A place on this machine, or org/name[@revision] of the hub."""
    if name == starter.NAME:
        return starter.fetch(settings)
    path = Path(name).expanduser()
    for place in (path, settings.models / name):
        if name and place.exists():
            return _model_in(place)
    listed = catalogue.repository_for(name, usable)
    if listed is not None:
        return listed
    if hub.is_id(name) and not name.endswith(".gguf"):
        return name
    here = ", ".join(known for known, _ in installed(settings))
    kinds = "a folder, a .gguf file, an org/name of the Hugging Face hub, a short name such as qwen3:4b"
    raise ModelError(f"There is no model {name!r}; what can be named is {kinds}, or one of these: {here}.")


def usable() -> int:
    """Bytes that this machine has for a model."""
    from ..memory.here import this_machine

    return this_machine().usable


def installed(settings: Settings) -> Iterator[tuple[str, Path | None]]:
    """(name, place) of what is on this machine; the starter always, with no place until it is fetched."""
    target = settings.models / starter.FILE
    yield starter.NAME, target if starter.present(target) else None
    if settings.models.is_dir():
        for place in sorted(settings.models.iterdir()):
            if place != target and not place.name.startswith(".") and (place.is_dir() or place.suffix == ".gguf"):
                yield place.name, place
    yield from hub.on_disk()


def _model_in(place: Path) -> Path:
    if place.is_file():
        if place.suffix != ".gguf":
            raise ModelError(f"{place} is neither a .gguf file nor a folder with a config.json.")
        return place
    if (place / "config.json").is_file():
        return place
    files = sorted(place.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        raise ModelError(f"{place} holds several models; name one: {', '.join(file.name for file in files)}.")
    raise ModelError(f"{place} holds no model: there is neither a config.json nor a .gguf file in it.")
