"""The tests' own record of worst differences; `conftest.py` writes it where GOLDEN_RECORD says."""

from __future__ import annotations

import json
from pathlib import Path

_KEPT: dict[str, dict[str, float]] = {}


def keep(case: str, check: str, difference: float) -> None:
    kept = _KEPT.setdefault(case, {})
    kept[check] = max(difference, kept.get(check, 0.0))


def save(path: Path) -> None:
    rounded = {case: {check: float(f"{d:.1e}") for check, d in sorted(kept.items())} for case, kept in _KEPT.items()}
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(kept)}" for case, kept in sorted(rounded.items()))
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
