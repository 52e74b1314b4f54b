"""A matrix behind a model's rows, as sentence-transformers writes one in a folder of its own: `Dense`.

It is small, and is computed by NumPy in float32 where vectors are pooled. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..weights.headers import Stored, read_header

Array = NDArray[np.float32]
WIDEST = 1 << 16  # numbers of a vector
LARGEST = 1 << 30  # bytes of its file
FILE, OLDER = "model.safetensors", "pytorch_model.bin"
TYPES = {"F32": "<f4", "F16": "<f2"}
erf = np.vectorize(math.erf, otypes=[np.float32])


def sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)), np.float32)  # overflows nowhere


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
    "GELU": lambda x: np.float32(0.5) * x * (1 + erf(x / np.float32(math.sqrt(2)))),
    "SiLU": lambda x: x * sigmoid(x),
    "Sigmoid": sigmoid,
}


@dataclass(frozen=True, slots=True, eq=False)
class DenseStep:
    weight: Array  # (out, in)
    bias: Array | None
    act: str  # of ACTIVATIONS
    beside: Array | None = None  # (out, in) what is added of the vector itself
    whole: bool = False  # the vector itself is added

    def __call__(self, x: Array) -> Array:
        """(..., in) -> (..., out)"""
        y = x @ self.weight.T
        y = ACTIVATIONS[self.act](y if self.bias is None else y + self.bias)
        return y + x if self.whole else y if self.beside is None else y + x @ self.beside.T

    @property
    def size(self) -> int:
        return int(self.weight.shape[0])


def read_dense(folder: Path, told: Mapping[str, Any], width: int) -> DenseStep:
    """`width`: of the vectors that it is given. ValueError says in a few words what is wrong."""
    name = folder.name
    inp, out = told.get("in_features"), told.get("out_features")
    if inp != width or not isinstance(out, int) or not 0 < out <= WIDEST:
        raise ValueError(f"{name}/config.json is for vectors of {inp} numbers, which have {width} here")
    act = str(told.get("activation_function") or "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if act not in ACTIVATIONS:
        raise ValueError(f"{name}/config.json asks for the activation {act!r}, which is not there yet")
    tensors = _tensors(folder)
    weight = _taken(tensors, name, "linear.weight", (out, inp))
    bias = _taken(tensors, name, "linear.bias", (out,)) if told.get("bias", True) else None
    residual = told.get("use_residual") is True
    beside = _taken(tensors, name, "residual.weight", (out, inp)) if residual and inp != out else None
    if tensors:
        raise ValueError(f"{name}/{FILE} holds {min(tensors)!r}, which nothing is known about")
    return DenseStep(weight, bias, act, beside, whole=residual and inp == out)


def _tensors(folder: Path) -> dict[str, Array]:
    path = folder / FILE
    if not path.is_file():
        there = f"; of its {OLDER} nothing is read" if (folder / OLDER).is_file() else ""
        raise ValueError(f"{folder.name} has no {FILE}{there}")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{folder.name}/{FILE} is larger than {LARGEST >> 20} MiB")
    header, data = read_header(path), path.read_bytes()
    return {name: _floats(f"{name} of {folder.name}/{FILE}", one, data) for name, one in header.tensors.items()}


def _floats(name: str, stored: Stored, data: bytes) -> Array:
    own = memoryview(data)[stored.start : stored.start + stored.nbytes]
    if stored.dtype == "BF16":
        found = (np.frombuffer(own, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif stored.dtype in TYPES:
        found = np.frombuffer(own, TYPES[stored.dtype]).astype(np.float32)
    else:
        raise ValueError(f"{name} is {stored.dtype}, which is not read here")
    return found.reshape(stored.shape)


def _taken(tensors: dict[str, Array], folder: str, name: str, shape: tuple[int, ...]) -> Array:
    found = tensors.pop(name, None)
    if found is None or found.shape != shape:
        has = "is missing" if found is None else f"has the shape {found.shape}, not {shape}"
        raise ValueError(f"{name} of {folder}/{FILE} {has}")
    return found
