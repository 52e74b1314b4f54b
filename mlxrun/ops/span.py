"""Keys (and whatever goes with them) of one sequence, as attention reads them, and how rows are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..cpu_kernels import native
from .device import Device


@dataclass(frozen=True, slots=True)
class Span:
    buffers: tuple[mx.array, ...]  # each (1, G, capacity, D); what lies behind `count` is not of this span
    first: int  # the position of the first key
    count: int

    @classmethod
    def of(cls, rows: tuple[mx.array, ...], first: int) -> Span:
        return cls(rows, first, rows[0].shape[2])

    @property
    def arrays(self) -> tuple[mx.array, ...]:  # each (1, G, S, D)
        return tuple(b if b.shape[2] == self.count else b[:, :, : self.count] for b in self.buffers)

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.count)


class Writing:
    """A pass that writes into buffers where they lie; `done`, what it computes, is known once it is under way."""

    __slots__ = ("done",)
    done: mx.array


Write = Callable[[tuple[mx.array, ...], Sequence[mx.array], int, int], tuple[mx.array, ...]]


def write_on(device: Device) -> Write:
    """buffers, rows, at, of -> the buffers (1, G, capacity, D) with rows (sequences, G, L, D) of sequence `of` from
    `at` on. In place where nothing else holds a buffer."""
    return _write_native if device.native else _write


def _write_native(buffers: tuple[mx.array, ...], rows: Sequence[mx.array], at: int, of: int) -> tuple[mx.array, ...]:
    return tuple(native.remember(buffer, new, at, of) for buffer, new in zip(buffers, rows, strict=True))


def _write(buffers: tuple[mx.array, ...], rows: Sequence[mx.array], at: int, of: int) -> tuple[mx.array, ...]:
    for buffer, new in zip(buffers, rows, strict=True):
        buffer[:, :, at : at + new.shape[2]] = new[of : of + 1]
    return buffers
