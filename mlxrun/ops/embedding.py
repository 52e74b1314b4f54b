"""Rows of a table, quantized or not."""

from __future__ import annotations

import mlx.core as mx

from ..cpu_kernels import native
from .frozen import FrozenMatrix
from .quantized import Matrix, Packed, QuantizedWeight


def embed(ids: mx.array, table: Matrix) -> mx.array:
    """(T,) ids -> (T, dim)."""
    if isinstance(table, FrozenMatrix):
        table = table.forward
    if isinstance(table, Packed):
        return native.table_rows(ids.astype(mx.int32), table, mx.float32)
    if isinstance(table, QuantizedWeight):
        return table.rows(lambda part: part[ids]).dequantize()
    return table[ids]
