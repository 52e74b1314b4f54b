"""Which experts serve each row, heard where routers choose, and a pass that must choose as another one did.

Two experts may stand so near that rounding decides between them; what a row says then differs by much more than
rounding. Such a row is told apart from a fault by giving it the other choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxrun.nn import moe
from mlxrun.spec import Router

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    ids: NDArray[Any]  # (T, k)
    weights: NDArray[Any]  # (T, k)
    margins: Floats  # (T,) by how much the last that was chosen was better than the first that was not


@dataclass(frozen=True)
class Flip:
    router: int
    row: int
    margin: float


@contextmanager
def heard() -> Iterator[list[Choice]]:
    found: list[Choice] = []
    choose = moe.route

    def told(logits: mx.array, spec: Router, bias: mx.array | None = None) -> tuple[mx.array, mx.array]:
        ids, weights = choose(logits, spec, bias)
        score = np.array(logits, dtype=np.float64)
        found.append(Choice(np.array(ids), np.array(weights), margins(score, spec, bias)))
        return ids, weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moe, "route", told)
        yield found


@contextmanager
def as_in(before: list[Choice]) -> Iterator[list[Flip]]:
    """Rows that would choose otherwise choose as before, and are told."""
    found: list[Flip] = []
    choose, routers = moe.route, iter(enumerate(before))

    def told(logits: mx.array, spec: Router, bias: mx.array | None = None) -> tuple[mx.array, mx.array]:
        ids, weights = choose(logits, spec, bias)
        router, known = next(routers)
        other = (np.sort(np.array(ids)) != np.sort(known.ids)).any(axis=1)
        found.extend(Flip(router, int(row), float(known.margins[row])) for row in np.flatnonzero(other))
        rows = mx.array(other)[:, None]
        return mx.where(rows, mx.array(known.ids), ids), mx.where(rows, mx.array(known.weights), weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moe, "route", told)
        yield found


def margins(logits: Floats, spec: Router, bias: mx.array | None) -> Floats:
    """In what is compared: scores with their bias, and sums of a group's two best where groups are chosen first."""
    score = 1 / (1 + np.exp(-logits)) if spec.score == "sigmoid" else logits
    score = score if bias is None else score + np.array(bias, dtype=np.float64)
    if spec.groups == 1:
        return gap(score, spec.top_k)
    grouped = score.reshape(len(score), spec.groups, -1)
    strength = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2)
    weakest = np.sort(strength, axis=1)[:, -spec.top_groups, None]
    left = np.where(strength[:, :, None] >= weakest[:, :, None], grouped, -np.inf).reshape(score.shape)
    return np.minimum(gap(strength, spec.top_groups), gap(left, spec.top_k))


def gap(score: Floats, count: int) -> Floats:
    best = np.sort(score, axis=1)[:, ::-1]
    return best[:, count - 1] - best[:, count] if count < score.shape[1] else np.full(len(score), np.inf)
