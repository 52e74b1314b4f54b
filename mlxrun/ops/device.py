"""By which forms of the operations a model runs: one value, made when the model is opened and handed down from there to
whatever computes for it.

So two models of one process may differ, and a test hands in what it wants. What `this_device` is not told it takes from
what there is: the native library, MLX's default device, and MLXRUN_PRECISION, which the library reads. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from .. import gpu
from ..cpu_kernels import available, native
from .choose import Chooser

Precision = Literal["exact", "fast"]


@dataclass(frozen=True, slots=True)
class Device:
    native: bool  # the native CPU kernels compute
    precision: Precision  # of their products: exact rounds only the result; without these kernels all are
    gpu: bool  # MLX computes on one
    chooser: Chooser  # of Metal kernels; what it has picked may change while a model runs, and no value with it

    @property
    def rounding(self) -> int:
        """The precision as native functions take it."""
        return 0 if self.precision == "exact" else 1

    def kept(self, dtype: mx.Dtype) -> mx.Dtype:
        """How keys and values are remembered: half as wide as float32, except where products are exact."""
        return mx.float16 if self.native and self.precision == "fast" and dtype == mx.float32 else dtype


def this_device(
    precision: Precision | None = None, *, native: bool | None = None, chooser: Chooser | None = None
) -> Device:
    """What is best here, but for what is said. `native` True only where there is such a library."""
    on_gpu = gpu.usable()
    return Device(
        native=available and not on_gpu if native is None else native,
        precision=_setting() if precision is None else precision,
        gpu=on_gpu,
        chooser=Chooser() if chooser is None else chooser,
    )


def _setting() -> Precision:
    return "fast" if available and native.precision() == "fast" else "exact"


def a_mac() -> Device:
    """As a Mac's GPU computes with MLX's own forms, for who tells what a model would take there."""
    return Device(native=False, precision="exact", gpu=True, chooser=Chooser("mlx"))
