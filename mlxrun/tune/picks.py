"""What was measured, as a file: {"machines": {"chip, macOS, MLX": {key: whether ours was quicker, or null}}}.

Null: there was no time for it. A file that cannot be read counts as none: it can be measured again. Another chip,
system or MLX starts anew.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Machine:
    chip: str
    system: str
    mlx: str

    def __str__(self) -> str:
        return f"{self.chip}, {self.system}, MLX {self.mlx}"


def this_machine() -> Machine | None:
    """None where there is no Apple GPU."""
    if not mx.metal.is_available():
        return None
    chip = str(mx.device_info().get("device_name", "unknown"))
    return Machine(chip, f"macOS {platform.mac_ver()[0]}", version("mlx"))


def load(path: Path, machine: Machine) -> dict[str, bool]:
    return {key: ours for key, ours in _table(path, machine).items() if ours is not None}


def looked_at(path: Path, machine: Machine) -> set[str]:
    """Keys that were measured, and those that there was no time for."""
    return set(_table(path, machine))


def save(path: Path, machine: Machine, quicker: Mapping[str, bool | None]) -> None:
    """Adds to what is there, in one step: whoever reads meanwhile sees the old file or the new one."""
    machines = _read(path)
    machines[str(machine)] = {**_table(path, machine), **quicker}
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_text(json.dumps({"machines": machines}, indent=1), encoding="utf-8")
    made.replace(path)


def _table(path: Path, machine: Machine) -> dict[str, bool | None]:
    found = _read(path).get(str(machine))
    if not isinstance(found, dict):
        return {}
    return {key: ours for key, ours in found.items() if ours is None or isinstance(ours, bool)}


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    machines = found.get("machines") if isinstance(found, dict) else None
    return machines if isinstance(machines, dict) else {}
