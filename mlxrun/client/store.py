"""The models on this machine, as a client lists them. Opens none of them, and imports no MLX."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..settings import Settings, from_environment
from ..store.pull import parts_of
from ..store.resolve import list_installed
from .types import ModelInfo


def on_this_machine(settings: Settings | None = None, *, loaded: str | None = None) -> list[ModelInfo]:
    """Every model of the store; `loaded` names the one that runs, wherever it lies."""
    found = [
        ModelInfo(name, None if place is None else str(place), None if place is None else weight_bytes(place))
        for name, place in list_installed(settings or from_environment())
    ]
    if loaded is not None and loaded not in {model.name for model in found}:
        place = Path(os.path.expanduser(loaded))
        found.append(ModelInfo(loaded, *((str(place), weight_bytes(place)) if place.exists() else ())))
    return [replace(model, loaded=model.name == loaded) for model in found]


def weight_bytes(place: Path) -> int | None:
    """None: it cannot be looked at."""
    try:
        if place.is_file():
            folder, files = parts_of(place) or (place.parent, [place.name])
            return sum((folder / file).stat().st_size for file in files)
        return sum(file.stat().st_size for kind in ("*.safetensors", "*.gguf") for file in place.glob(kind))
    except OSError:
        return None
