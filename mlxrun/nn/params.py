"""Weights by canonical name, handed to blocks one scope at a time, every one exactly once.

A block asks for what its spec says it needs; the shape is checked as it is taken. What nobody took
is an error, and so is what is missing: half a load is impossible.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

import mlx.core as mx

from ..ops.device import Device
from ..ops.quantized import Matrix, Weight
from ..spec import ModelError, Norm
from .linear import Adaptable, BoundedLinear, Embedding, Linear
from .norm import NormBlock

Formed = TypeVar("Formed")


def as_stored(weight: Weight) -> Weight:
    return weight


@dataclass(frozen=True, slots=True)
class Forms:
    """What becomes of a weight as it is taken: the loader's choice for this device."""

    matrix: Callable[[Weight], Matrix] = as_stored  # what is multiplied by, or looked up
    other: Callable[[Weight], Weight] = as_stored


AS_STORED = Forms()


class OutlinedAsAsked(dict[str, Weight]):
    """Weights of a model of which only the config is here: each is there in the shape that is asked for."""

    def __init__(self, outline: Callable[[tuple[int, ...], bool], Weight]) -> None:
        """`outline`: of that shape, and whether it is a matrix."""
        super().__init__()
        self.outline = outline


class Params:
    """A weight that changes its form as it is taken leaves the mapping, so that the stored one may be freed."""

    def __init__(
        self,
        weights: MutableMapping[str, Weight],
        device: Device,
        *,
        fold_offsets: bool = True,
        scope: str = "",
        forms: Forms = AS_STORED,
        adapted: Adaptable | None = None,
    ) -> None:
        self.device = device  # that blocks are built for
        self.adapted = adapted  # None: no adapter will ever change what is built
        self._weights, self._scope, self._fold, self._forms = weights, scope, fold_offsets, forms
        self._taken: set[str] = set()

    def scope(self, name: str) -> Params:
        full = f"{self._scope}{name}."
        inner = Params(
            self._weights, self.device, fold_offsets=self._fold, scope=full, forms=self._forms, adapted=self.adapted
        )
        inner._taken = self._taken
        return inner

    def named(self, name: str) -> str:
        """The whole name of what is called so here."""
        return self._scope + name

    def has(self, name: str) -> bool:
        return self._scope + name in self._weights

    def weight(self, name: str, *shape: int) -> Weight:
        return self._take(name, shape, self._forms.other, matrix=False)

    def matrix(self, name: str, *shape: int) -> Matrix:
        """A weight (out, in) that is multiplied by, a stack of such, or a table that is looked up."""
        return self._take(name, shape, self._forms.matrix, matrix=True)

    def _take(self, name: str, shape: tuple[int, ...], form: Callable[[Weight], Formed], *, matrix: bool) -> Formed:
        full = self._scope + name
        if isinstance(self._weights, OutlinedAsAsked) and full not in self._weights:
            self._weights[full] = self._weights.outline(shape, matrix)
        if full not in self._weights:
            raise ModelError(f"The weight {full} {shape} is missing from the checkpoint.")
        found = self._weights[full]
        if tuple(found.shape) != shape:
            raise ModelError(f"The weight {full} has shape {tuple(found.shape)}; this model needs {shape}.")
        self._taken.add(full)
        formed = form(found)
        if formed is not found:
            del self._weights[full]
        return formed

    def array(self, name: str, *shape: int) -> mx.array:
        found = self.weight(name, *shape)
        if not isinstance(found, mx.array):
            raise ModelError(f"The weight {self._scope + name} is quantized; this model needs it in full precision.")
        return found

    def linear(self, name: str, out: int, inp: int, *, bias: bool = False, bounded: bool = False) -> Linear:
        weight = self.matrix(f"{name}.weight", out, inp)
        added = self.array(f"{name}.bias", out) if bias else None
        if bounded:
            return BoundedLinear(weight, self.device, added, self.array(f"{name}.bounds", 4))
        if self.adapted is None or not self._scope.startswith("layers."):  # elsewhere rows are not those of the pass
            return Linear(weight, self.device, added)
        return self.adapted.linear(weight, self.device, added, f"{self._scope}{name}.weight")

    def embedding(self, name: str, rows: int, dim: int) -> Embedding:
        return Embedding(self.matrix(f"{name}.weight", rows, dim), self.device)

    def norm(self, name: str, spec: Norm, dim: int) -> NormBlock:
        """The norm of that name. The offset of a zero-centred weight is added here, once."""
        weight = self.array(f"{name}.weight", dim) if spec.weight else None
        if weight is not None and spec.offset and self._fold:
            weight = weight + spec.offset
        return NormBlock(spec, self.device, weight, self.array(f"{name}.bias", dim) if spec.bias else None)

    def leftovers(self) -> list[str]:
        return sorted(set(self._weights) - self._taken)
