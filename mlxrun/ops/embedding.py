"""Rows of a table, quantized or not."""

from __future__ import annotations

import mlx.core as mx

from .quantized import QuantizedWeight, Weight


def embed(ids: mx.array, table: Weight) -> mx.array:
    """(T,) ids -> (T, dim)."""
    if isinstance(table, QuantizedWeight):
        return table.rows(lambda part: part[ids]).dequantize()
    return table[ids]
