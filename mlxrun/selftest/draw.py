"""Weights from names: the same numbers on every machine, without storing them.

`draw` depends on the case's name and seed, the tensor's name as stored on disk, its shape and its kind, and on nothing
else. RandomState is used because NumPy promises that its stream never changes; Generator's may.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

UNIFORM = {
    "decay": (0.0, 1.5),  # A_log
    "step": (-3.0, 0.6),  # dt_bias: steps from 0.05 to 1 after softplus
    "skip": (0.1, 0.6),  # D
    "half": (0.5, 0.5),
    "tiny": (-1e-6, -1e-6),
    "scalar": (0.5, 1.5),  # layer_scalar, per-expert scale
    # a router's biases for choosing: score + bias on both sides of zero, always below, always above
    "select_mixed": (-0.6, 0.2),
    "select_negative": (-1.4, -0.9),
    "select_positive": (0.0, 0.6),
}
GAUSS = {"norm": (1.0, 0.2), "norm0": (0.0, 0.2), "bias": (0.0, 0.2), "sinks": (0.0, 1.0)}  # mean, deviation


def draw(case: str, name: str, shape: tuple[int, ...], kind: str, seed: int = 0) -> NDArray[np.float32]:
    """Values of the tensor `name`; matrices get a gain of 1.2 over their inputs."""
    digest = hashlib.sha256(f"{case}\n{name}\n{seed}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(digest, dtype=np.uint32))
    if kind in UNIFORM:
        return random.uniform(*UNIFORM[kind], size=shape).astype(np.float32)
    if kind in GAUSS:
        mean, deviation = GAUSS[kind]
    else:
        mean, deviation = 0.0, 1.2 / np.sqrt(shape[{"matrix": -1, "matrix_t": -2}[kind]])  # matrix_t: inputs first
    return (mean + deviation * random.standard_normal(shape)).astype(np.float32)
