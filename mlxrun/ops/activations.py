"""Activations by name, alone or as a gated pair. Compiled, so that each is one kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..spec import Activation

Unary = Callable[[mx.array], mx.array]
Gated = Callable[[mx.array, mx.array], mx.array]

# gpt-oss: the sigmoid's slope and the clamp of its gated unit
SWIGLU_ALPHA, SWIGLU_LIMIT = 1.702, 7.0


def activation(name: Activation) -> Unary:
    return _UNARY[name]


def glu(name: Activation) -> Gated:
    """act(gate) * up, as one function of both."""
    return _GATED[name]


@partial(mx.compile, shapeless=True)
def _relu2(x: mx.array) -> mx.array:
    return mx.square(mx.maximum(x, 0))


@partial(mx.compile, shapeless=True)
def _clamped_swiglu(gate: mx.array, up: mx.array) -> mx.array:
    gate = mx.minimum(gate, SWIGLU_LIMIT)
    up = mx.clip(up, -SWIGLU_LIMIT, SWIGLU_LIMIT)
    return gate * mx.sigmoid(SWIGLU_ALPHA * gate) * (up + 1)


@partial(mx.compile, shapeless=True)
def xielu(x: mx.array, alpha_p: mx.array, alpha_n: mx.array, beta: mx.array, eps: mx.array) -> mx.array:
    """In float32: near 0, exp(x) - 1 - x is the small difference of large numbers."""
    y = x.astype(mx.float32)
    left = (mx.expm1(mx.minimum(y, eps)) - y) * alpha_n
    return (mx.where(y > 0, alpha_p * y * y, left) + beta * y).astype(x.dtype)


def _gated(act: Unary) -> Gated:
    @partial(mx.compile, shapeless=True)
    def pair(gate: mx.array, up: mx.array) -> mx.array:
        return act(gate) * up

    return pair


_UNARY: dict[str, Unary] = {
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "relu2": _relu2,
}
_GATED: dict[str, Gated] = {name: _gated(act) for name, act in _UNARY.items()} | {"clamped_swiglu": _clamped_swiglu}
