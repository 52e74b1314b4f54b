"""Weights from names: the same numbers on every machine, without storing them.

`draw` depends on the case's name and seed, the tensor's name as stored on disk, its shape and its kind,
and on nothing else. The kinds are chosen by `kind_of` when a reference is made and kept in its manifest.
RandomState is used because NumPy promises that its stream never changes; Generator's may.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

from .case import SelectBias

SELECT_BIAS: dict[SelectBias, tuple[float, float]] = {
    "mixed": (-0.6, 0.2),
    "negative": (-1.4, -0.9),  # sigmoid score + bias stays below zero
    "positive": (0.0, 0.6),
}
UNIFORM = {
    "decay": (0.0, 1.5),  # A_log
    "step": (-3.0, 0.6),  # dt_bias: steps from 0.05 to 1 after softplus
    "skip": (0.1, 0.6),  # D
    "half": (0.5, 0.5),
    "tiny": (-1e-6, -1e-6),
    "scalar": (0.5, 1.5),  # layer_scalar, per-expert scale
    **{f"select_{kind}": span for kind, span in SELECT_BIAS.items()},
}
XIELU = {"alpha_p": "scalar", "alpha_n": "scalar", "beta": "half", "eps": "tiny"}  # its parameters
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


def kind_of(name: str, initial: NDArray[np.float32], inputs_first: bool, select_bias: SelectBias) -> str:
    """How a tensor should be drawn, from its name and from what its family initialises it to."""
    last = name.rsplit(".", 1)[-1]
    if re.search(r"e_score_correction_bias$|expert_bias$", name):
        return f"select_{select_bias}"
    if last in XIELU and initial.size == 1:
        return XIELU[last]
    if last in ("A_log", "dt_bias", "D", "sinks", "layer_scalar", "per_expert_scale"):
        return {"A_log": "decay", "sinks": "sinks", "dt_bias": "step", "D": "skip"}.get(last, "scalar")
    if "bias" in last:  # one row an expert in GPT-OSS
        return "bias"
    if initial.ndim == 1:
        value = float(initial[0])
        if not np.all(initial == value) or value not in (0.0, 1.0):
            raise ValueError(f"{name} starts neither at 0 nor at 1; say how to draw it")
        return "norm" if value else "norm0"  # 0: stored less one
    return "matrix_t" if inputs_first else "matrix"
