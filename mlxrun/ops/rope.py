"""Rotary positions.

Which frequencies a long-context model uses is
chosen by the session's length, once, so cached keys stay valid.
"""

from __future__ import annotations

import mlx.core as mx

from ..spec import Rope


class RotaryTable:
    """The frequencies of one Rope as device arrays."""

    __slots__ = ("long", "short", "spec")

    def __init__(self, spec: Rope) -> None:
        self.spec = spec
        self.short = mx.array(spec.freqs, mx.float32)  # (dims / 2,)
        self.long = None if spec.long_freqs is None else mx.array(spec.long_freqs, mx.float32)

    @property
    def all(self) -> list[tuple[mx.array, float]]:
        """Frequencies and scale, for short sessions and then for long ones where these have their own."""
        short = (self.short, self.spec.scale)
        scale = self.spec.scale if self.spec.long_scale is None else self.spec.long_scale
        return [short] if self.long is None else [short, (self.long, scale)]

    def freqs(self, context: int) -> mx.array:
        return self.long if self.long is not None and self._is_long(context) else self.short

    def scale(self, context: int) -> float:
        long = self.spec.long_scale
        return long if long is not None and self._is_long(context) else self.spec.scale

    def _is_long(self, context: int) -> bool:
        return self.spec.original is not None and context > self.spec.original


def rope(x: mx.array, table: RotaryTable, offset: int | mx.array, context: int) -> mx.array:
    """x (B, heads, L, D), rotated from position `offset` on (one, or one for each of B)."""
    spec, scale = table.spec, table.scale(context)
    if scale != 1.0:
        x = mx.concatenate([x[..., : spec.dims] * scale, x[..., spec.dims :]], axis=-1)
    return mx.fast.rope(
        x,
        spec.dims,
        traditional=spec.interleaved,
        base=None,
        scale=1.0,
        offset=offset,
        freqs=table.freqs(context),
    )
