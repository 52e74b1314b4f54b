"""A matrix that stays as it is while something before it is trained: native products that hand gradients back.

y = x @ w.T, so what flows back is dx = dy @ w: a product by the same matrix turned round, which is packed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ..cpu_kernels import native

if TYPE_CHECKING:
    from .quantized import Packed


class FrozenMatrix:
    __slots__ = ("back", "forward", "product")

    def __init__(self, forward: Packed, back: Packed, rounding: int) -> None:
        """`forward` (out, in), `back` (in, out); `rounding` as native functions take it."""
        self.forward, self.back = forward, back

        @mx.custom_function
        def product(x: mx.array) -> mx.array:
            made: mx.array = native.matmul(x, forward, None, None, rounding)
            return made

        @product.vjp
        def carry_back(x: mx.array, above: mx.array, y: mx.array) -> mx.array:
            made: mx.array = native.matmul(above, back, None, None, rounding)
            return made

        self.product: Callable[[mx.array], Any] = product  # an array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.forward.shape

    @property
    def nbytes(self) -> int:
        return self.forward.nbytes + self.back.nbytes
