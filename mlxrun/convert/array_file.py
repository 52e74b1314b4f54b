"""Vectors as a NumPy file, a row each: made aside, and there only when all of it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .aside import write_aside

if TYPE_CHECKING:
    from ..engine.embedding import Vector


def write_array(output: Path, vectors: Iterable[Vector]) -> int:
    """How many there are."""
    with write_aside(output, folder=False) as aside:
        rows = np.stack(list(vectors))
        with aside.open("wb") as to:
            np.save(to, rows)
    return len(rows)
