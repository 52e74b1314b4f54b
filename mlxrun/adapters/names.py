"""What an adapter is called where nobody says."""

from __future__ import annotations

from pathlib import Path


def name_of(place: Path) -> str:
    return place.stem if place.suffix == ".gguf" else place.name
