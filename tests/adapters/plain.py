"""What a folder says by itself, without an adapter beside it."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device


def plain_outputs(folder: Path, prompt: tuple[int, ...]) -> np.ndarray:
    model = load_model(folder, options=LoadOptions(device=this_device("exact")))
    hidden = model(mx.array(prompt), [(model.new_sequence(64), len(prompt))])
    return np.array(model.logits(hidden))
