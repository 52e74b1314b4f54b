"""Adapters as PEFT and mlx-lm write them, of random matrices, and checkpoints in which they are merged by NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.golden.checkpoint import Checkpoint

Floats = NDArray[np.float32]
RANK, ALPHA = 3, 5.0


@dataclass(frozen=True)
class Pair:
    a: Floats  # (rank, in)
    b: Floats  # (out, rank)


def stored(folder: Path) -> Checkpoint:
    return Checkpoint({}, load_file(folder / "model.safetensors"))


def drawn_pairs(checkpoint: Checkpoint, seed: int = 1, rank: int = RANK, *, turned: bool = False) -> dict[str, Pair]:
    """One for each matrix of the layers, by the name in the file. `turned`: the file has its inputs first."""
    random = np.random.default_rng(seed)
    found = {}
    for name, weight in checkpoint.weights.items():
        if weight.ndim != 2 or not name.endswith(".weight") or not any(part.isdigit() for part in name.split(".")):
            continue
        out, inputs = weight.shape[::-1] if turned else weight.shape
        size = float(np.abs(weight).mean())
        a = random.standard_normal((rank, inputs)).astype(np.float32) * inputs**-0.5
        found[name] = Pair(a, random.standard_normal((out, rank)).astype(np.float32) * size)
    return found


def merged(checkpoint: Checkpoint, pairs: Mapping[str, Pair], scale: float, *, turned: bool = False) -> Checkpoint:
    weights = dict(checkpoint.weights)
    for name, pair in pairs.items():
        added = scale * (pair.b.astype(np.float64) @ pair.a.astype(np.float64))
        weights[name] = (weights[name] + (added.T if turned else added)).astype(np.float32)
    return replace(checkpoint, weights=weights)


def write_peft(
    folder: Path, pairs: Mapping[str, Pair], lengths: Mapping[str, Floats] | None = None, **config: Any
) -> Path:
    """`lengths`: DoRA's, of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = next(iter(pairs.values())).a.shape[0]
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": ALPHA, "target_modules": ["q_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    tensors = {}
    for name, pair in pairs.items():
        module = "base_model.model." + name.removesuffix(".weight")
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = pair.a, pair.b
        if lengths is not None:
            tensors[f"{module}.lora_magnitude_vector"] = lengths[name]
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def write_mlx(folder: Path, pairs: Mapping[str, Pair], scale: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {"rank": RANK, "scale": scale, "dropout": 0.0},
    }
    (folder / "adapter_config.json").write_text(json.dumps(told), encoding="utf-8")
    tensors = {}
    for name, pair in pairs.items():
        module = name.removesuffix(".weight")
        stacked = pair.a.ndim == 3  # experts' lie as they are
        tensors[f"{module}.lora_a"] = pair.a if stacked else np.ascontiguousarray(pair.a.T)
        tensors[f"{module}.lora_b"] = pair.b if stacked else np.ascontiguousarray(pair.b.T)
    save_file(tensors, folder / "adapters.safetensors", metadata={"format": "mlx"})
    return folder
