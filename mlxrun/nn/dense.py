"""The feed-forward network, gated or plain."""

from __future__ import annotations

from statistics import NormalDist

import mlx.core as mx
import mlx.nn as nn

from ..ops.activations import activation, glu, xielu
from ..spec import Dense, ScaledDense, XieluDense
from .params import Params


class DenseBlock:
    def __init__(self, spec: Dense, dim: int, params: Params) -> None:
        self.spec, self.device = spec, params.device
        bounded = spec.bounded
        self.gate = params.linear("gate", spec.hidden, dim, bias=spec.bias, bounded=bounded) if spec.gated else None
        self.up = params.linear("up", spec.hidden, dim, bias=spec.bias, bounded=bounded)
        out_bias = spec.bias if spec.out_bias is None else spec.out_bias
        self.down = params.linear("down", dim, spec.hidden, bias=out_bias, bounded=bounded)
        self.glu = glu(spec.act) if spec.gated else None
        self.act = None if spec.gated else activation(spec.act)
        self.cut = NormalDist().inv_cdf(spec.sparsity) if spec.sparsity else None  # in standard deviations
        self.down_norm = None if spec.down_norm is None else params.norm("down_norm", spec.down_norm, spec.hidden)

    def __call__(self, x: mx.array) -> mx.array:  # (T, dim) -> (T, dim)
        h = self._hidden(x)
        return self.down(h if self.down_norm is None else self.down_norm(h))

    def _hidden(self, x: mx.array) -> mx.array:
        if self.gate is not None and self.glu is not None:
            gate = self.gate(x)
            if self.cut is not None:
                gate = _above(gate, self.cut)
            return self.glu(gate, self.up(x))
        assert self.act is not None
        return self.act(self.up(x))


def _above(x: mx.array, cut: float) -> mx.array:
    """By how much each value is above its row's mean and `cut` deviations."""
    mean = x.mean(axis=-1, keepdims=True)
    return mx.maximum(x - (mean + cut * mx.std(x, axis=-1, keepdims=True)), 0)


class ScaledDenseBlock:
    """Its weights stay as stored: multipliers folded into them would be rounded to their type."""

    def __init__(self, spec: ScaledDense, dim: int, params: Params) -> None:
        self.spec, self.dense = spec, DenseBlock(spec.dense, dim, params)

    def __call__(self, x: mx.array) -> mx.array:  # (T, dim) -> (T, dim)
        d = self.dense
        assert d.gate is not None
        assert d.glu is not None
        return d.down(d.glu(d.gate(x) * self.spec.gate, d.up(x))) * self.spec.out


class XieluDenseBlock:
    def __init__(self, spec: XieluDense, dim: int, params: Params) -> None:
        self.up = params.linear("up", spec.hidden, dim, bias=spec.bias)
        self.down = params.linear("down", dim, spec.hidden, bias=spec.bias)
        if spec.learned is None:
            learned = [params.array(f"xielu.{name}", 1) for name in ("alpha_p", "alpha_n", "beta", "eps")]
        else:
            learned = [mx.array([value]) for value in spec.learned]
        alpha_p, alpha_n, beta, eps = (value.astype(mx.float32) for value in learned)
        self.slopes = nn.softplus(alpha_p), beta + nn.softplus(alpha_n), beta, eps

    def __call__(self, x: mx.array) -> mx.array:  # (T, dim) -> (T, dim)
        return self.down(xielu(self.up(x), *self.slopes))
