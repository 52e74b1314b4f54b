"""What a reference must be to be kept, and its files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .case import Case, prompt
from .checkpoint import FOLDER

FELT = 1e-3  # a changed weight must move the output by ten times the tolerance of the tests
STEADY = 3e-5  # rounding alone must move it by less than a third of the tolerance


def store(
    name: str,
    case: Case,
    made_with: dict[str, str],
    config: dict[str, Any],
    tensors: dict[str, Any],
    reference: NDArray[np.float32],
) -> None:
    lines = ",\n".join(f"  {json.dumps(tensor)}: {json.dumps(what)}" for tensor, what in tensors.items())
    head = {
        "made_with": made_with,
        "prompt": prompt(case.tokens),
        "output": "hidden states" if case.encoder else "logits",
        "config": config,
    }
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    (FOLDER / f"{name}.json").write_text(f'{{{text},\n"tensors": {{\n{lines}\n}}}}\n', encoding="utf-8")
    np.save(FOLDER / f"{name}.npy", reference)
