"""The tests' own record of worst differences; `conftest.py` writes it where GOLDEN_RECORD says."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from .checkpoint import FOLDER

_KEPT: dict[str, dict[str, float]] = {}


def keep(case: str, check: str, difference: float) -> None:
    kept = _KEPT.setdefault(case, {})
    kept[check] = max(difference, kept.get(check, 0.0))


def save(path: Path) -> None:
    """The largest of each, rounded so that another run on the same machine gives the same file."""
    write(path, {case: {check: float(f"{d:.1e}") for check, d in kept.items()} for case, kept in _KEPT.items()})


def write(path: Path, cases: dict[str, dict[str, float]]) -> None:
    rounded = {case: dict(sorted(kept.items())) for case, kept in cases.items()}
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(kept)}" for case, kept in sorted(rounded.items()))
    made = json.dumps(made_with())
    path.write_text(f'{{"made_with": {made},\n"cases": {{\n{lines}\n}}}}\n', encoding="utf-8")


def made_with() -> dict[str, str]:
    reference = json.loads((FOLDER / "llama.json").read_text(encoding="utf-8"))["made_with"]
    return {
        "MLX": version("mlx"),
        "on": f"{platform.system()} {platform.machine()} {mx.default_device().type.name}",
        **reference,
    }
