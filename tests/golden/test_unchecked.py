"""Every class of mlx-lm has a recipe here, or a reason why nobody has checked it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mlxrun.families import FAMILIES
from mlxrun.families.wrappers import HALVES

from .mlx_dialect import CLASS
from .unchecked import UNCHECKED


def test_every_class_of_mlx_lm_is_spoken_for() -> None:
    folder = find_spec("mlx_lm.models").submodule_search_locations[0]  # type: ignore[union-attr,index]  # it is installed
    classes = {path.stem for path in Path(folder).glob("*.py") if "class Model(" in path.read_text(encoding="utf-8")}
    told = {*FAMILIES, *UNCHECKED, *CLASS.values(), *(outer for outer, half in HALVES.items() if half in FAMILIES)}
    assert classes - told == set()
    assert not set(UNCHECKED) & set(FAMILIES)
