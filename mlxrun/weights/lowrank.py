"""A change of low rank to a weight, as an adapter's file holds it: scale * b @ a beside a matrix (out, in).

Rules that move rows move those of `b`, and those that touch the inputs touch `a`; nothing is multiplied out on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import mlx.core as mx

Change = Callable[[mx.array, int], mx.array]


@dataclass(frozen=True, slots=True)
class LowRank:
    a: mx.array  # (..., rank, in)
    b: mx.array  # (..., out, rank)
    scale: float
    magnitude: mx.array | None = None  # (..., out) how long each row of the sum is (DoRA); None: as it comes out

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix that it changes."""
        return (*self.b.shape[:-1], self.a.shape[-1])

    @property
    def ndim(self) -> int:
        return self.b.ndim

    @property
    def rank(self) -> int:
        return self.a.shape[-2]

    def changed(self, axis: int, change: Change) -> LowRank:
        """`change` along an axis of the matrix that this stands for."""
        if axis == self.ndim - 1:
            return replace(self, a=change(self.a, axis))
        a = change(self.a, axis) if axis < self.ndim - 2 else self.a
        magnitude = None if self.magnitude is None else change(self.magnitude, axis)
        return replace(self, a=a, b=change(self.b, axis), magnitude=magnitude)

    def transposed(self) -> LowRank | None:
        """None: rows that have lengths of their own become columns, which have none."""
        if self.magnitude is not None:
            return None
        a, b = (mx.contiguous(part.swapaxes(-1, -2)) for part in (self.b, self.a))
        return replace(self, a=a, b=b)

    def whole(self) -> mx.array:
        """The change itself, in float32."""
        return self.scale * (self.b.astype(mx.float32) @ self.a.astype(mx.float32))


def stacked(parts: list[LowRank]) -> LowRank | None:
    """One for each expert, joined. None: they are not of one scale, or only some have magnitudes."""
    first = parts[0]
    if any(part.scale != first.scale or (part.magnitude is None) != (first.magnitude is None) for part in parts):
        return None
    rank = max(part.rank for part in parts)
    magnitudes = [part.magnitude for part in parts if part.magnitude is not None]
    return LowRank(
        mx.stack([mx.pad(part.a, [(0, rank - part.rank), (0, 0)]) for part in parts]),
        mx.stack([mx.pad(part.b, [(0, 0), (0, rank - part.rank)]) for part in parts]),
        first.scale,
        mx.stack(magnitudes) if magnitudes else None,
    )
