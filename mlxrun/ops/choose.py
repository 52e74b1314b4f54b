"""Which form of an operation runs: MLX's own, or our Metal kernel where that was measured to be quicker here.

Nothing is assumed about a machine: until `mlxrun tune` has timed a shape, and wherever a kernel does not
serve it, MLX's own form runs. Knows no kernel and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx

from ..metal_kernels.check import Quantized
from ..metal_kernels.launch import runnable

Policy = Literal["auto", "mlx", "ours"]
ROWS = (1, 2, 3, 4, 8, 16, 64)  # rows of x are told apart up to here; more count as the last


@dataclass(slots=True)
class Chooser:
    """`policy`: auto as measured, mlx or ours wherever ours can serve."""

    policy: Policy = "auto"
    quicker: Mapping[str, bool] = field(default_factory=dict)  # by key: whether ours was
    asked: dict[str, None] | None = None  # keys asked for, in order, where somebody wants to know

    def possible(self) -> bool:
        """Whether any kernel of ours may run at all."""
        return self.policy != "mlx" and runnable()

    def ours(self, key: str) -> bool:
        if self.asked is not None:
            self.asked[key] = None
        return self.policy == "ours" or (self.policy == "auto" and self.quicker.get(key, False))


chooser = Chooser()


def use(policy: Policy, quicker: Mapping[str, bool]) -> None:
    """From here on, for the whole process."""
    chooser.policy, chooser.quicker = policy, quicker


def rows_class(rows: int) -> int:
    return next((n for n in ROWS if rows <= n), ROWS[-1])


def key(op: str, rows: int, *weights: Quantized, dtype: mx.Dtype) -> str:
    """One line that names an operation and all that decides its speed: "matmul 1 4096x1024 affine-4-64 bfloat16"."""
    shapes = "+".join("x".join(map(str, (*w.packed.shape[:-1], w.packed.shape[-1] * 32 // w.bits))) for w in weights)
    first = weights[0]
    return f"{op} {rows_class(rows)} {shapes} {first.mode}-{first.bits}-{first.group} {str(dtype).split('.')[-1]}"
