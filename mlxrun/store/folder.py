"""The models that lie in a folder of a person's own, by name: told from the names of files, none of which is opened.

A folder with a config.json, a .gguf file, and folders of either one level down (org/name, as other programs keep them).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LATER_PART = re.compile(r"-(\d{5})-of-\d{5}$")
NO_MODEL = "mmproj"  # how a file begins that is a picture tower's only


def models_in(folder: Path) -> dict[str, Path]:
    """Where two have one name, the .gguf file keeps its ending. Empty: the folder is gone, or nobody may look in."""
    found: dict[str, Path] = {}
    for place in listed(folder):
        for name, path in at(place):
            found[path.name if name in found else name] = path
    return found


def at(place: Path, deep: bool = True) -> Iterator[tuple[str, Path]]:
    if place.suffix == ".gguf":
        if first_part(place) and place.is_file():
            yield LATER_PART.sub("", place.stem), place
    elif (place / "config.json").is_file():
        yield place.name, place
    elif place.is_dir():
        files = [file for file in listed(place) if file.suffix == ".gguf" and first_part(file)]
        if len(files) == 1:
            yield place.name, files[0]
        elif files or deep:
            inside = files or listed(place)
            yield from ((f"{place.name}/{name}", path) for one in inside for name, path in at(one, deep=False))


def listed(folder: Path) -> list[Path]:
    try:
        return sorted(place for place in folder.iterdir() if not place.name.startswith("."))
    except OSError:
        return []


def first_part(file: Path) -> bool:
    part = LATER_PART.search(file.stem)
    return not file.name.startswith(NO_MODEL) and (part is None or int(part[1]) == 1)
