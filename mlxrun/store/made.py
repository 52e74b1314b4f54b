"""What was made of models and can be made again: files that were made ready, and quantized copies.

Whose they are, how large, and which of them will never be used again. What another version of mlxrun made is such too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..loading import checksums, provenance, ready
from ..settings import Settings
from ..spec import ModelError
from ..weights.files import key_of
from . import hub, pull


@dataclass(frozen=True, slots=True)
class Made:
    path: Path
    kind: str  # ready, quantized
    place: Path | None  # of the model that it was made from; None: it does not say
    size: int
    outdated: str | None  # why it will never be used again


def everything(settings: Settings) -> list[Made]:
    copies = [_quantized(copy) for copy in sorted(settings.quantized.glob("*-*")) if copy.is_dir()]
    going = {copy.path.resolve() for copy in copies if copy.outdated}
    files = [_ready(file, going) for file in sorted(settings.ready.glob(f"*{ready.SUFFIX}"))]
    return [*copies, *files]


def _quantized(copy: Path) -> Made:
    made_from = provenance.noted(copy)
    place = None if made_from is None else made_from.place
    return Made(copy, "quantized", place, size_of(copy), provenance.outdated(made_from))


def _ready(file: Path, going: set[Path]) -> Made:
    owner = ready.owner_of(file)
    why = ready.outdated(file)
    if owner is not None and owner.place.resolve() in going:
        why = "the quantized copy that it was made of goes"
    return Made(file, "ready", None if owner is None else owner.place, size_of(file), why)


def of_model(place: Path, settings: Settings) -> list[Path]:
    """Of the model at that place: its quantized copies, then what was made ready of it and of them."""
    found: list[Path] = []
    for model in models_in(place):
        copies = sorted(settings.quantized.glob(f"{key_of(model)}-*"))
        found += [*copies, *(file for one in (model, *copies) for file in ready.of_place(settings.ready, one))]
    return found


def models_in(place: Path) -> list[Path]:
    """The model itself, and the GGUF files of a snapshot of the hub."""
    inside = hub.snapshot_of(place) == place
    return [place, *(place / offer.files[0] for offer in pull.offers_in(place))] if inside else [place]


def forget(made: Iterable[Path]) -> int:
    """Take it away; bytes that are free now. Who has such a file open keeps it until he ends."""
    freed = 0
    for path in made:
        try:
            size = size_of(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except FileNotFoundError:  # somebody else was faster
            continue
        except OSError as error:
            raise ModelError(f"{path} could not be removed: {error.strerror or error}.") from error
        freed += size
    return freed


def damaged(file: Path, progress: Callable[[int, int], None]) -> str | None:
    """Reads a ready file through; None: it is what was written, which is remembered."""
    try:
        _, blocks = ready.described(file, file.stat())
    except (ModelError, KeyError, ValueError, TypeError):
        return "its header is not what was written"
    try:
        for count in checksums.check(blocks):
            progress(min(count * checksums.BLOCK, blocks.identity[1]), blocks.identity[1])
    except checksums.Damaged as damage:
        return str(damage)
    checksums.remember(blocks, len(blocks.sums))
    return None


def ready_files(made: Iterable[Path]) -> Iterator[Path]:
    return (path for path in made if path.name.endswith(ready.SUFFIX))


def size_of(place: Path) -> int:
    """Of a file, or of all files in a folder; what is linked counts once, where it lies."""
    if place.is_dir() and not place.is_symlink():
        return sum(file.lstat().st_size for file in place.rglob("*") if not file.is_dir())
    return place.lstat().st_size
