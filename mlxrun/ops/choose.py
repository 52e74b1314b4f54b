"""Which form of an operation runs: MLX's own, or our Metal kernel, in one of its cuts, where that was measured to be
quicker here.

Nothing is assumed about a machine: until `mlxrun tune` has timed a shape, and wherever a kernel does not
serve it, MLX's own form runs. Knows no kernel and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx

from .. import gpu
from ..metal_kernels.check import Quantized
from ..metal_kernels.launch import library
from ..metal_kernels.tiles import CUTS, Cut

Policy = Literal["auto", "mlx", "ours"]
MLX = "mlx"  # the pick that is no cut of ours
OURS = tuple(CUTS)  # in the order in which they are tried
ROWS = (1, 2, 3, 4, 8, 16, 64)  # rows of x are told apart up to here; more count as the last


@dataclass(slots=True, eq=False)
class Chooser:
    """Of one device. `policy`: auto as measured, mlx or ours wherever ours can serve."""

    policy: Policy = "auto"
    picks: Mapping[str, str] = field(default_factory=dict)  # by key: MLX, or one of OURS
    asked: dict[str, None] | None = None  # keys asked for, in order, where somebody wants to know

    def possible(self) -> bool:
        """Whether any kernel of ours may run at all."""
        return self.policy != "mlx" and (library.simulated or gpu.metal())

    def ours(self, key: str) -> Cut | None:
        if self.asked is not None:
            self.asked[key] = None
        pick = {"auto": self.picks.get(key, MLX), "mlx": MLX, "ours": OURS[0]}[self.policy]
        return CUTS.get(pick)


def rows_class(rows: int) -> int:
    return next((n for n in ROWS if rows <= n), ROWS[-1])


def key(op: str, rows: int, *weights: Quantized, dtype: mx.Dtype) -> str:
    """One line that names an operation and all that decides its speed: "matmul 1 4096x1024 affine-4-64 bfloat16"."""
    shapes = "+".join("x".join(map(str, (*w.packed.shape[:-1], w.packed.shape[-1] * 32 // w.bits))) for w in weights)
    first = weights[0]
    return f"{op} {rows_class(rows)} {shapes} {first.mode}-{first.bits}-{first.group} {str(dtype).split('.')[-1]}"
