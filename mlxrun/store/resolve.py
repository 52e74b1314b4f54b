"""From the name that a person types to a folder or a .gguf file on this machine.

`smollm2` is the starter model. Else what exists wins: a path, then a name in the model store, then a
short name of the catalogue. What looks like org/name, with a tag or a file behind it or not, is of the Hugging Face
hub; `ollama:` before a name says Ollama's registry. Knows nothing of what is inside the files.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import HEADS, OFF, TEXT, Settings, from_environment
from ..spec import ModelError
from ..weights.gguf import named_as_gguf
from . import catalogue, names, pull, registry, starter
from .arriving import Told, tell_nobody
from .names import Name
from .registry import Registered

if TYPE_CHECKING:
    from ..memory.machine import Machine


def resolve(name: str, settings: Settings | None = None, told: Told = tell_nobody) -> Path:
    """`told`: what comes, before it does, of a model that is not here."""
    settings = settings or from_environment()
    place = _where(name, settings, told)
    if isinstance(place, Registered):
        return registry.fetch(place, settings)
    return place if isinstance(place, Path) else pull.pull_model(place, settings, told)


def here(name: str, settings: Settings) -> Path | None:
    """Where it is on this machine; None: it would be fetched. Raises where it can be no model's name; the network is
    not asked."""
    if name == starter.NAME:
        place = settings.models / starter.FILE
        return place if starter.present(place) else None
    found = _where(name, settings)
    if isinstance(found, Registered):
        return registry.here(found, settings)
    return found if isinstance(found, Path) else pull.here(found, settings)


def fetchable(name: str) -> bool:
    """Whether it is a name that a model has for everybody: no path, nor what only this machine calls so."""
    return name == starter.NAME or name.lower() in catalogue.CATALOGUE or names.parse(name) is not None


def draft_model(settings: Settings) -> Path | None:
    """Which model drafts, where a person named one."""
    return None if settings.draft in (OFF, TEXT, HEADS) else resolve(settings.draft, settings)


@contextmanager
def headers_of(
    name: str, settings: Settings | None = None, machine: Machine | None = None
) -> Iterator[tuple[Path, bool]]:
    """Where its headers can be read, and whether the model itself is here; nothing large is fetched for it.

    `machine`: for which one of several GGUF files is chosen; None: for this one.
    """
    settings = settings or from_environment()
    place = _where(name, settings)
    if isinstance(place, Registered):
        found = registry.here(place, settings)
    else:
        found = place if isinstance(place, Path) else pull.here(place, settings, machine)
    if found is not None:
        yield found, True
    elif isinstance(place, Registered):
        with registry.outline(place) as outline:
            yield outline, False
    elif isinstance(place, Name):
        with pull.outline_remote(place, machine or pull.machine_of(settings)) as outline:
            yield outline, False


def _where(name: str, settings: Settings, told: Told = tell_nobody) -> Path | Name | Registered:
    """A place on this machine, or a name of the hub or of Ollama's registry."""
    if name == starter.NAME:
        return starter.fetch(settings, told)
    registered = registry.parse(name)
    if registered is not None:
        return registered
    path = Path(os.path.expanduser(name))  # unlike Path's own it lets ~nobody be
    for place in (path, settings.models / name):
        if name and place.exists():
            return _model_in(place)
    listed = catalogue.repository_for(name, lambda: pull.machine_of(settings).usable)
    found = names.parse(listed or name)
    if found is not None:
        return found
    known = [known for known, _ in list_installed(settings)]
    kinds = "a folder, a .gguf file, an org/name[:TAG] of the Hugging Face hub, a short name such as qwen3:4b"
    meant = close_to(name, [*known, *catalogue.CATALOGUE])
    asked = f" Did you mean {meant}?" if meant else ""
    raise ModelError(
        f"There is no model {name!r}.{asked} What can be named is {kinds}, or one of these: {', '.join(known)}."
    )


def close_to(name: str, known: Sequence[str]) -> str:
    """What somebody may have meant by it, or nothing."""
    small = {one.lower(): one for one in reversed(known)}
    close = difflib.get_close_matches(name.lower()[:100], small, n=2, cutoff=0.7)
    return " or ".join(small[one] for one in close)


def list_installed(settings: Settings) -> Iterator[tuple[str, Path | None]]:
    """(name, place) of what is on this machine; the starter always, with no place until it is fetched."""
    target = settings.models / starter.FILE
    yield starter.NAME, target if starter.present(target) else None
    if settings.models.is_dir():
        for place in sorted(settings.models.iterdir()):
            if place != target and not place.name.startswith(".") and (place.is_dir() or place.suffix == ".gguf"):
                yield place.name, place
    yield from pull.on_disk()


def _model_in(place: Path) -> Path:
    if place.is_file():
        if not named_as_gguf(place):
            raise ModelError(f"{place} is neither a .gguf file nor a folder with a config.json.")
        return place
    if not place.is_dir():
        raise ModelError(f"{place} is neither a regular file nor a folder.")
    if (place / "config.json").is_file():
        return place
    files = sorted(place.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        raise ModelError(f"{place} holds several models; name one: {', '.join(file.name for file in files)}.")
    raise ModelError(f"{place} holds no model: there is neither a config.json nor a .gguf file in it.")
