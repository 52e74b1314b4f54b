"""What an adapter adds to a product y = x @ w.T (+ bias): scale * b @ (a @ x); all but the bias times `gain` (DoRA)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from .device import Device
from .matmul import matmul
from .quantized import Matrix


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """Of one matrix (out, in)."""

    a: Matrix  # (rank, in)
    b: Matrix  # (out, rank)
    scale: float
    gain: mx.array | None = None  # (out,) float32

    @property
    def nbytes(self) -> int:
        return int(self.a.nbytes + self.b.nbytes + (0 if self.gain is None else self.gain.nbytes))


@dataclass(frozen=True, eq=False)
class Adapter:
    name: str
    digest: str  # of its content: names are not identity
    parts: Mapping[str, AdapterPart] = field(repr=False)  # by the canonical name of the weight that it changes

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts.values())


def scope_with(scope: str, adapter: Adapter | None) -> str:
    """Who may share what is read: those of that scope who have the same adapter."""
    return scope if adapter is None else f"{scope}\n{adapter.digest}"


def adapter_in(scope: str, known: Iterable[Adapter]) -> Adapter | None:
    _, mark, digest = scope.rpartition("\n")
    return next((one for one in known if mark and one.digest == digest), None)


AdaptedSpan = tuple[int, int, Adapter]  # rows from the first on, so many, have that adapter


def adapted(
    x: mx.array, y: mx.array, bias: mx.array | None, spans: Sequence[tuple[int, int, AdapterPart]], device: Device
) -> mx.array:
    """y (T, out) of x (T, in) with what adapters add to their rows; spans are in order."""
    made, end = [], 0
    for start, count, part in spans:
        rows = slice(start, start + count)
        made += [y[end:start], changed(x[rows], y[rows], bias, part, device)]
        end = start + count
    made.append(y[end:])
    filled = [piece for piece in made if piece.shape[0]]
    return filled[0] if len(filled) == 1 else mx.concatenate(filled)


def changed(x: mx.array, y: mx.array, bias: mx.array | None, part: AdapterPart, device: Device) -> mx.array:
    added = matmul(matmul(x, part.a, device), part.b, device) * part.scale
    if part.gain is None:
        return (y + added).astype(y.dtype)
    if bias is None:
        return ((y + added) * part.gain).astype(y.dtype)
    return ((y - bias + added) * part.gain + bias).astype(y.dtype)
