"""docs/architecture.md names places; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PLACE = re.compile(r"`([\w.*/]+(?:/|\.(?:py|pyi|md|cpp|h|metal)))`")
PLACES = sorted(set(PLACE.findall(PAGE)))


def stands(place: str) -> bool:
    """From the root of the repository, or within the package."""
    return any(any(folder.glob(place.rstrip("/"))) for folder in (ROOT, ROOT / "mlxrun"))


@pytest.mark.parametrize("place", PLACES)
def test_it_is_there(place: str) -> None:
    assert stands(place), f"docs/architecture.md names {place}, which is not there"


def test_it_names_many_places_and_a_wrong_one_is_seen() -> None:
    assert len(PLACES) > 40
    assert not stands("mlxrun/loading/nothing.py")


def test_the_map_has_every_room() -> None:
    own = {path.name for path in (ROOT / "mlxrun").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert own == set(re.findall(r"^  (\w+)/ ", PAGE, re.MULTILINE))
