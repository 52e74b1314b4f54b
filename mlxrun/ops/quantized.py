"""A quantized weight is one thing, whatever file it came from.

`packed` holds the codes as MLX packs them (uint32, along the last axis), `scales` and `biases` one
value a group of `group` inputs. Every operation that moves rows (`__getitem__` on leading axes,
`stack`, `concatenate`, `rows`) is lossless because groups run along the input axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import mlx.core as mx

from .frozen import FrozenMatrix

if TYPE_CHECKING:

    class Packed:
        """A weight in the form of the native CPU kernels; see `mlxrun.ops.native`."""

        @property
        def shape(self) -> tuple[int, ...]: ...

        @property
        def nbytes(self) -> int: ...

else:  # mypy knows that package under its short name only
    from ..cpu_kernels import Packed

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
LEAST_GROUP = 32  # of MLX's affine layouts; groups of 16 are for our own kernels


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    packed: mx.array  # (..., out, in * bits / 32) uint32
    scales: mx.array  # (..., out, in / group)
    biases: mx.array | None  # as scales; affine only
    mode: Mode
    bits: int
    group: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that this stands for."""
        return (*self.packed.shape[:-1], self.packed.shape[-1] * 32 // self.bits)

    @property
    def ndim(self) -> int:
        return self.packed.ndim

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def in_mlx(self) -> bool:
        """Whether MLX's own operations know the layout."""
        return self.mode != "affine" or self.group >= LEAST_GROUP

    @property
    def parts(self) -> tuple[mx.array, ...]:
        return (self.packed, self.scales) if self.biases is None else (self.packed, self.scales, self.biases)

    def rows(self, change: Callable[[mx.array], mx.array]) -> QuantizedWeight:
        """Apply a change that touches leading axes only to every part."""
        return self._with([change(part) for part in self.parts])

    def dequantize(self, dtype: mx.Dtype | None = None) -> mx.array:
        """In the scales' type where none is named; rounded once, at the end.

        In half precision MLX rounds scale * code before it adds the bias, which cancels most of it: an 8-bit
        weight would be off by more than one of its steps in bfloat16.
        """
        if self.biases is None:
            return mx.dequantize(
                self.packed, self.scales, group_size=self.group, bits=self.bits, mode=self.mode, dtype=dtype
            )
        scales, biases = self.scales.astype(mx.float32), self.biases.astype(mx.float32)
        if self.in_mlx:
            full = mx.dequantize(self.packed, scales, biases, group_size=self.group, bits=self.bits)
        else:
            codes = self._codes().reshape(*scales.shape, self.group)
            full = (codes * scales[..., None] + biases[..., None]).reshape(self.shape)
        return full.astype(self.scales.dtype if dtype is None else dtype)

    def _codes(self) -> mx.array:
        """(..., in) float32, as MLX takes groups of 32 apart: scaled by one, and with whole groups behind."""
        *rows, words = self.packed.shape
        whole = mx.pad(self.packed, [(0, 0)] * len(rows) + [(0, -words % self.bits)])
        ones = mx.ones((*rows, whole.shape[-1] // self.bits))
        codes = mx.dequantize(whole, ones, mx.zeros_like(ones), group_size=LEAST_GROUP, bits=self.bits)
        return codes[..., : self.shape[-1]]

    def _with(self, parts: Sequence[mx.array]) -> QuantizedWeight:
        return QuantizedWeight(
            parts[0], parts[1], parts[2] if len(parts) > 2 else None, self.mode, self.bits, self.group
        )


Weight = mx.array | QuantizedWeight  # as stored
Matrix = Weight | Packed | FrozenMatrix  # as multiplied by


def same_layout(weights: Sequence[Weight]) -> bool:
    kinds = {(w.mode, w.bits, w.group) if isinstance(w, QuantizedWeight) else None for w in weights}
    return len(kinds) == 1


def gather(weights: Sequence[Weight], join: Callable[[list[mx.array]], mx.array]) -> Weight:
    """Join weights of one layout along a leading axis: `join` is mx.stack or mx.concatenate at axis 0."""
    first = weights[0]
    if isinstance(first, QuantizedWeight):
        columns = zip(*(w.parts for w in weights if isinstance(w, QuantizedWeight)), strict=True)
        return first._with([join(list(column)) for column in columns])
    return join([w for w in weights if isinstance(w, mx.array)])
