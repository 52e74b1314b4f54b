"""References back into files: redraw a case's weights and write a checkpoint folder that a loader can read.

Needs NumPy and safetensors only; knows nothing of mlxrun but how weights are drawn. The other
shapes that a family's files come in are in `variants.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .cases import CASES
from .draw import draw

FOLDER = Path(__file__).parent / "cases"
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """What stands in a folder: config.json, the tensors, and who wrote them."""

    config: dict[str, Any]
    weights: Weights
    format: str = "pt"  # the safetensors metadata: "pt" or "mlx"


@dataclass(frozen=True)
class Reference:
    name: str
    prompt: tuple[int, ...]
    expected: NDArray[np.float32]  # (tokens, vocabulary) logits, or (tokens, hidden) states of an encoder
    encoder: bool
    config: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], str]]  # name: (shape, kind)

    def checkpoint(self) -> Checkpoint:
        """As transformers writes it."""
        seed = CASES[self.name].seed
        drawn = {name: draw(self.name, name, shape, kind, seed) for name, (shape, kind) in self.tensors.items()}
        return Checkpoint(dict(self.config), drawn)


def reference(name: str) -> Reference:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Reference(
        name,
        tuple(stored["prompt"]),
        np.load(FOLDER / f"{name}.npy"),
        stored["output"] == "hidden states",
        stored["config"],
        {tensor: (tuple(shape), kind) for tensor, (shape, kind) in stored["tensors"].items()},
    )


def write(checkpoint: Checkpoint, folder: Path, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(checkpoint.config, indent=1), encoding="utf-8")
    metadata = {"format": checkpoint.format}
    weights = {name: np.asarray(value, order="C") for name, value in checkpoint.weights.items()}  # keeps () as it is
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata=metadata)
        return folder
    places: dict[str, str] = {}
    for number in range(shards):
        part = {name: weights[name] for name in sorted(weights)[number::shards]}
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, folder / file, metadata=metadata)
        places |= dict.fromkeys(part, file)
    write_index(folder, places, weights)
    return folder


def write_index(folder: Path, places: Mapping[str, str], weights: Weights) -> None:
    size = sum(value.nbytes for value in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
