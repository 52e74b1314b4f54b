"""Rotary positions for the folded rows of a pass."""

from __future__ import annotations

import math

import mlx.core as mx

from ..ops.fused import Rotation
from ..ops.rope import RotaryTable, rope
from ..spec import Rope
from .batch import Pass


class Rotary:
    __slots__ = ("by_axis", "table")

    def __init__(self, spec: Rope) -> None:
        self.table = RotaryTable(spec)
        self.by_axis = [  # coordinate, frequencies; infinity: that pair stands still
            (axis, mx.array([f if of == axis else math.inf for f, of in zip(spec.freqs, spec.axes, strict=True)]))
            for axis in sorted(set(spec.axes))
        ]

    def __call__(self, x: mx.array, p: Pass) -> mx.array:
        """x as `Pass.fold` lays it: (1, heads, T, D) for one sequence, (T, heads, 1, D) for several."""
        if self.by_axis and p.coordinates is not None:
            return self._by_coordinates(x, p, p.coordinates)
        first = p.segments[0]
        if len(p.segments) == 1:
            return rope(x, self.table, first.turns.start, first.context)
        if self.one_table(p):
            return rope(x, self.table, p.turned, first.context)
        pieces = [rope(x[s.rows], self.table, p.turned[s.rows], s.context) for s in p.segments]
        return mx.concatenate(pieces)

    def _by_coordinates(self, x: mx.array, p: Pass, coordinates: mx.array) -> mx.array:
        """Once for each coordinate, the pairs of the others standing still."""
        one = len(p.segments) == 1
        x = x.transpose(2, 1, 0, 3) if one else x  # (T, heads, 1, D)
        spec = self.table.spec
        if spec.scale != 1.0:
            x = mx.concatenate([x[..., : spec.dims] * spec.scale, x[..., spec.dims :]], axis=-1)
        for axis, freqs in self.by_axis:
            x = mx.fast.rope(
                x,
                spec.dims,
                traditional=spec.interleaved,
                base=None,
                scale=1.0,
                offset=coordinates[axis],
                freqs=freqs,
            )
        return x.transpose(2, 1, 0, 3) if one else x

    def turn(self, p: Pass) -> Rotation:
        """The same for a fused kernel, which takes one position a row, when all sequences share one table."""
        table, context = self.table, p.segments[0].context
        return Rotation(table.freqs(context), p.turned, table.spec.interleaved, table.scale(context))

    def which(self, context: int) -> int:
        """Of the table's `all`, the one that a session of that length turns by."""
        return int(self.table.freqs(context) is self.table.long)

    def one_table(self, p: Pass) -> bool:
        """And rows have one position each."""
        return p.coordinates is None and len({id(self.table.freqs(s.context)) for s in p.segments}) == 1
