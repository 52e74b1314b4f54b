"""Rows on their way round, by MLX's own distributed engine. A process can be in one ring in its life.

Sends and receives run on streams of their own: each waits for its neighbour, and nothing else should wait with it.
MLX hides nothing of what is sent and asks nobody who he is: a ring belongs on a network of one's own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence

import mlx.core as mx


class Ring:
    """Of the machine `rank`: it is sent rows by the one before and sends them to the one behind."""

    def __init__(self, rank: int, addresses: Sequence[str]) -> None:
        """Blocks until both neighbours are there; on the thread that computes."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump([[address] for address in addresses], file)
            file.flush()
            os.environ["MLX_RANK"], os.environ["MLX_HOSTFILE"] = str(rank), file.name
            self._group = mx.distributed.init(strict=True, backend="ring")
        count = len(addresses)
        self._before, self._behind = (rank - 1) % count, (rank + 1) % count
        cpu = mx.Device(mx.cpu, 0)
        self._out, self._in = mx.new_stream(cpu), mx.new_stream(cpu)

    def send(self, rows: mx.array) -> mx.array:
        """They are on their way when what comes back is computed."""
        return mx.distributed.send(rows, self._behind, group=self._group, stream=self._out)

    def receive(self, rows: int, dim: int, dtype: mx.Dtype) -> mx.array:
        """(rows, dim)"""
        return mx.distributed.recv((rows, dim), dtype, self._before, group=self._group, stream=self._in)

    def round(self, rows: mx.array) -> mx.array:
        """Sent, and what comes back when all machines had them, of the same shape."""
        sent = self.send(rows)
        back: mx.array = mx.depends(self.receive(rows.shape[0], rows.shape[1], rows.dtype), sent)
        return back
