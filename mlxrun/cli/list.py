"""mlxrun list: the models on this machine, and how large they and what was made of them are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec import one_line
from . import options
from .show_adapter import list_folder
from .terminal import tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..settings import Settings
    from ..store.made import Made

HELP = "list the models on this machine"
Row = tuple[str, str, str, str]  # name, its size, that of what was made of it, place


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs; bytes")
    parser.add_argument("--adapters", type=Path, metavar="DIR", help="the adapters of this folder instead")


def main(flags: argparse.Namespace) -> int:
    from ..settings import from_environment
    from ..store.made import everything, of_model
    from ..store.resolve import list_installed
    from .show import size

    if flags.adapters is not None:
        return list_folder(options.at_home(flags.adapters), as_json=flags.json)
    settings = from_environment()
    made = everything(settings)
    if flags.json:
        return as_json(list_installed(settings), made, settings)
    rows: list[Row] = []
    listed: set[Path] = set()
    for name, place in list_installed(settings):
        if place is None:
            rows.append((one_line(name), "", "", "not here yet; fetched when first used"))
            continue
        mine = set(of_model(place, settings))
        listed |= mine
        copies = sum(one.size for one in made if one.path in mine and not one.outdated)
        rows.append(
            (one_line(name), size(bytes_of(place)), f"+ {size(copies)} made of it" if copies else "", str(place))
        )
    show([*rows, *elsewhere([one for one in made if one.path not in listed])])
    outdated = [one for one in made if one.outdated]
    if outdated:
        total = size(sum(one.size for one in outdated))
        tell("", f"{total} in {len(outdated)} copies will never be used again; mlxrun prune removes them.")
    return 0


def as_json(installed: Iterable[tuple[str, Path | None]], made: Sequence[Made], settings: Settings) -> int:
    from ..store.made import of_model

    models = []
    for name, place in installed:
        mine = set() if place is None else set(of_model(place, settings))
        copies = sum(one.size for one in made if one.path in mine and not one.outdated)
        there = {"place": None, "bytes": None} if place is None else {"place": str(place), "bytes": bytes_of(place)}
        models.append({"name": name, **there, "made_bytes": copies})
    copied = [
        {
            "place": str(one.path),
            "kind": one.kind,
            "of": None if one.place is None else str(one.place),
            "bytes": one.size,
            "outdated": one.outdated,
        }
        for one in made
    ]
    print(json.dumps({"models": models, "made": copied}, indent=2))  # ASCII: a name that is no text stays readable
    return 0


def elsewhere(made: Sequence[Made]) -> list[Row]:
    """Copies of models that are not in the list: somebody's own folders and files."""
    from .show import size

    sizes: dict[Path, int] = {}
    for one in made:
        if one.place is not None and not one.outdated:
            sizes[one.place] = sizes.get(one.place, 0) + one.size
    return [("", "", f"+ {size(total)} made of", str(place)) for place, total in sizes.items()]


def bytes_of(place: Path) -> int:
    """Of a model: its file, all parts of it, or what is in its folder; what a link leads to counts."""
    from ..store.pull import parts_of

    parts = parts_of(place)
    files = [parts[0] / name for name in parts[1]] if parts is not None else [place]
    inside = [each for file in files for each in (file.rglob("*") if file.is_dir() else [file])]
    return sum(file.stat().st_size for file in inside if file.is_file())


def show(rows: Sequence[Row]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    tell(*(f"{name:{widths[0]}}  {own:>{widths[1]}}  {made:>{widths[2]}}  {place}" for name, own, made, place in rows))
