"""Which form of an operation runs: MLX's own, or our Metal kernel, in one of its cuts, where that was measured to be
quicker here.

Nothing is assumed about a machine: until `mlxrun tune` has timed a shape, and wherever a kernel does not
serve it, MLX's own form runs. So it does from then on where the device refused a kernel, which is said once.
Knows no kernel and no file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import mlx.core as mx

from .. import gpu
from ..metal_kernels.check import Quantized
from ..metal_kernels.launch import KernelRefused, Pipeline, library, on_this_thread, told
from ..metal_kernels.tiles import CUTS, Cut

Made = TypeVar("Made")
Policy = Literal["auto", "mlx", "ours"]
MLX = "mlx"  # the pick that is no cut of ours
OURS = tuple(CUTS)  # in the order in which they are tried
ROWS = (1, 2, 3, 4, 8, 16, 64)  # rows of x are told apart up to here; more count as the last

__all__ = ["MLX", "OURS", "ROWS", "Chooser", "Pipeline", "Policy", "key", "refusal", "rows_class", "told"]
log = logging.getLogger("mlxrun.kernels")


@dataclass(slots=True, eq=False)
class Chooser:
    """Of one device. `policy`: auto as measured, mlx or ours wherever ours can serve."""

    policy: Policy = "auto"
    picks: Mapping[str, str] = field(default_factory=dict)  # by key: MLX, or one of OURS
    asked: dict[str, None] | None = None  # keys asked for, in order, where somebody wants to know
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # key and cut -> what the device said of it

    def possible(self) -> bool:
        """Whether any kernel of ours may run at all."""
        return self.policy != "mlx" and (library.simulated or gpu.metal())

    def ours(self, key: str) -> Cut | None:
        return CUTS.get(self._pick(key))

    def run(self, key: str, form: Callable[[Cut], Made], *, only: bool = False) -> Made | None:
        """What `form` makes in the cut of ours to use. None: MLX's form is the one to use, or the device refused ours.

        `only`: MLX does not know this layout, so nothing was measured, and ours is used wherever it runs.
        """
        pick = OURS[0] if only else self._pick(key)
        if pick not in CUTS or (key, pick) in self.refused:
            return None
        try:
            return form(CUTS[pick])
        except KernelRefused as why:
            self.refuse(key, pick, str(why))
            return None

    def refuse(self, key: str, cut: str, why: str) -> None:
        """Never again while this chooser lives; which is said once."""
        self.refused[key, cut] = why
        log.warning("%s", refusal(key, cut, why))

    def told(self) -> tuple[str, ...]:
        """A sentence for each form that was refused."""
        return tuple(refusal(*form, why) for form, why in list(self.refused.items()))

    @staticmethod
    def launched() -> tuple[Pipeline, ...]:
        """The kernels that were launched on this thread since this was last asked."""
        return on_this_thread.take()

    @staticmethod
    def doubt() -> None:
        """Every kernel is computed by itself at its next launch, as at its first."""
        library.doubt()

    @staticmethod
    def convict(kernels: Iterable[Pipeline], why: str) -> None:
        """None of them is launched again, for any model: whose form it was is told when it is asked for next."""
        library.refuse(kernels, why)

    def _pick(self, key: str) -> str:
        if self.asked is not None:
            self.asked[key] = None
        return {"auto": self.picks.get(key, MLX), "mlx": MLX, "ours": OURS[0]}[self.policy]


def refusal(key: str, cut: str, why: str) -> str:
    return f"Our Metal kernel for {key} ({cut}) does not run here and is not used: {why.rstrip('.')}."


def rows_class(rows: int) -> int:
    return next((n for n in ROWS if rows <= n), ROWS[-1])


def key(op: str, rows: int, *weights: Quantized, dtype: mx.Dtype) -> str:
    """One line that names an operation and all that decides its speed: "matmul 1 4096x1024 affine-4-64 bfloat16"."""
    shapes = "+".join("x".join(map(str, (*w.packed.shape[:-1], w.packed.shape[-1] * 32 // w.bits))) for w in weights)
    first = weights[0]
    return f"{op} {rows_class(rows)} {shapes} {first.mode}-{first.bits}-{first.group} {str(dtype).split('.')[-1]}"
