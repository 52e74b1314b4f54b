"""Rotary positions for the folded rows of a pass."""

from __future__ import annotations

import mlx.core as mx

from ..ops.fused import Rotation
from ..ops.rope import RotaryTable, rope
from ..spec import Rope
from .batch import Pass


class Rotary:
    __slots__ = ("table",)

    def __init__(self, spec: Rope) -> None:
        self.table = RotaryTable(spec)

    def __call__(self, x: mx.array, p: Pass) -> mx.array:
        """x as `Pass.fold` lays it: (1, heads, T, D) for one sequence, (T, heads, 1, D) for several."""
        first = p.segments[0]
        if len(p.segments) == 1:
            return rope(x, self.table, first.offset, first.context)
        if self.one_table(p):
            return rope(x, self.table, p.positions, first.context)
        pieces = [rope(x[s.rows], self.table, p.positions[s.rows], s.context) for s in p.segments]
        return mx.concatenate(pieces)

    def turn(self, p: Pass) -> Rotation:
        """The same for a fused kernel, when all sequences share one table."""
        table, context = self.table, p.segments[0].context
        return Rotation(table.freqs(context), p.positions, table.spec.interleaved, table.scale(context))

    def which(self, context: int) -> int:
        """Of the table's `all`, the one that a session of that length turns by."""
        return int(self.table.freqs(context) is self.table.long)

    def one_table(self, p: Pass) -> bool:
        return len({id(self.table.freqs(s.context)) for s in p.segments}) == 1
