"""How what a branch of a layer made joins the residual: normed or not, scaled or not."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .norm import NormBlock


@dataclass(frozen=True, slots=True)
class After:
    post: NormBlock | None = None
    residual: float = 1.0

    def __call__(self, x: mx.array, branch: mx.array) -> mx.array:
        if self.post is not None:
            branch = self.post(branch)
        return x + branch if self.residual == 1.0 else x + branch * self.residual
