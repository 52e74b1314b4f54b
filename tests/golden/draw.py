"""How the tensors of a case are drawn, chosen by `kind_of` when a reference is made and kept in its manifest.

What is drawn is `mlxrun.selftest.draw`'s, for the self-test draws the same models where there are no tests.
"""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mlxrun.selftest.draw import UNIFORM
from mlxrun.selftest.draw import draw as draw

from .case import SelectBias

SELECT_BIAS: dict[SelectBias, tuple[float, float]] = {kind: UNIFORM[f"select_{kind}"] for kind in get_args(SelectBias)}
XIELU = {"alpha_p": "scalar", "alpha_n": "scalar", "beta": "half", "eps": "tiny"}  # its parameters


def kind_of(name: str, initial: NDArray[np.float32], inputs_first: bool, select_bias: SelectBias) -> str:
    """How a tensor should be drawn, from its name and from what its family initialises it to."""
    last = name.rsplit(".", 1)[-1]
    if re.search(r"e_score_correction_bias$|expert_bias$", name):
        return f"select_{select_bias}"
    if last in XIELU and initial.size == 1:
        return XIELU[last]
    if last in ("A_log", "dt_bias", "D", "sinks", "layer_scalar", "per_expert_scale"):
        return {"A_log": "decay", "sinks": "sinks", "dt_bias": "step", "D": "skip"}.get(last, "scalar")
    if last == "recurrent_param":
        return "step"
    if "bias" in last:  # one row an expert in GPT-OSS
        return "bias"
    if initial.ndim == 1:
        value = float(initial[0])
        if not np.all(initial == value) or value not in (0.0, 1.0):
            raise ValueError(f"{name} starts neither at 0 nor at 1; say how to draw it")
        return "norm" if value else "norm0"  # 0: stored less one
    return "matrix_t" if inputs_first else "matrix"
