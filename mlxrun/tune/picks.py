"""What was measured, as a file: {"machines": {"chip, macOS, MLX": {key: pick}}}, a pick as below.

Where nothing was tried, there was no time for it. A file that cannot be read counts as none: it can be measured again.
Another chip, system or MLX starts anew.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from .. import gpu
from ..ops.choose import MLX, OURS


@dataclass(frozen=True, slots=True)
class Pick:
    form: str = MLX  # the quickest of MLX's own and those of our cuts that were tried
    tried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TunedMachine:
    chip: str
    system: str
    mlx: str

    def __str__(self) -> str:
        return f"{self.chip}, {self.system}, MLX {self.mlx}"


def this_machine() -> TunedMachine | None:
    """None where there is no Apple GPU."""
    if not gpu.metal():
        return None
    chip = str(gpu.info().get("device_name", "unknown"))
    return TunedMachine(chip, f"macOS {platform.mac_ver()[0]}", version("mlx"))


def load(path: Path, machine: TunedMachine) -> dict[str, Pick]:
    found = _read(path).get(str(machine))
    made = {key: _pick(entry) for key, entry in found.items()} if isinstance(found, dict) else {}
    return {key: pick for key, pick in made.items() if pick is not None}


def forms(picks: Mapping[str, Pick]) -> dict[str, str]:
    return {key: pick.form for key, pick in picks.items()}


def save(path: Path, machine: TunedMachine, found: Mapping[str, Pick]) -> None:
    """Adds to what is there, in one step: whoever reads meanwhile sees the old file or the new one."""
    machines = _read(path)
    machines[str(machine)] = {key: asdict(pick) for key, pick in {**load(path, machine), **found}.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_text(json.dumps({"machines": machines}, indent=1), encoding="utf-8")
    made.replace(path)


def _pick(entry: object) -> Pick | None:
    """Cuts that are no more count as not tried."""
    match entry:
        case {"form": str(form), "tried": [*tried]} if form == MLX or form in OURS:
            return Pick(form, tuple(cut for cut in OURS if cut in tried))
        case _:
            return None


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    machines = found.get("machines") if isinstance(found, dict) else None
    return machines if isinstance(machines, dict) else {}
