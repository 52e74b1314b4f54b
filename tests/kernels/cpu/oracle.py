"""What the kernels must give, in float64, and how far float32 may be from it.

Every value carries the error that it may have. The bounds follow from the arithmetic alone: a product
of K terms rounds K times, a sum of squares in 16 lanes K / 16 times, and so on; no constant was fitted.
What they do not know: results that overflow float32 on the way, and values below its normal range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .made import Made, wide

U = 2.0**-24  # the largest relative error of one rounding to float32
TINY = 2.0**-126
BLOCK = 32  # inputs that share a unit in `fast`
TOP = 127 * 128 + 63  # the largest number of two signed bytes, hi * 2^7 + lo: the largest value of a block
ROUNDING = {mx.float32: (U, 2.0**-149), mx.float16: (2.0**-11, 2.0**-25), mx.bfloat16: (2.0**-8, 2.0**-133)}


@dataclass(frozen=True)
class Near:
    """True values and how far a computed one may be from each."""

    value: np.ndarray
    error: np.ndarray

    @property
    def most(self) -> np.ndarray:
        return abs(self.value) + self.error

    def __add__(self, other: Near) -> Near:
        value, error = self.value + other.value, self.error + other.error
        return Near(value, error + U * (abs(value) + error))

    def __mul__(self, other: Near) -> Near:
        error = self.most * other.most - abs(self.value * other.value)
        return Near(self.value * other.value, error + U * self.most * other.most)

    def stored(self, dtype: mx.Dtype) -> Near:
        relative, least = ROUNDING[dtype]
        return Near(self.value, self.error + relative * self.most + least)


def known(value: np.ndarray) -> Near:
    return Near(value, np.zeros_like(value))


def product(x: Near, w: Made, *, fast: bool) -> Near:
    """x (..., K) . w (N, K)^T. `fast` tells whether integers are used at all."""
    value, gross, inputs = w.value, w.gross, w.value.shape[-1]
    if fast and w.integers:
        # every value is off by half a unit of its block, sums of blocks are added twice (codes, biases)
        unit = blocks_of(x.most).max(axis=-1) / TOP
        half = np.repeat(unit / 2 * (1 + 4 * U), BLOCK, axis=-1)[..., :inputs]
        error = (x.error + half) @ abs(value).T
        error += (2 * math.ceil(inputs / BLOCK) * 2 + 8) * U * ((x.most + half) @ gross.T)
    else:
        error = x.error @ abs(value).T + (inputs + 4) * U * (x.most @ (abs(value) + 2 * U * gross).T)
        error += 2 * U * (x.most @ gross.T)
    return Near(x.value @ value.T, error + TINY)


def blocks_of(x: np.ndarray) -> np.ndarray:
    blocks = math.ceil(x.shape[-1] / BLOCK)
    padded = np.pad(x, [*[(0, 0)] * (x.ndim - 1), (0, blocks * BLOCK - x.shape[-1])])
    return padded.reshape(*x.shape[:-1], blocks, BLOCK)


def rms_norm(x: Near, weight: np.ndarray | None, eps: float) -> Near:
    """16 lanes add up the squares; then a tree of 4, a division, a root, and two products."""
    wide = x.value.shape[-1]
    factor = 1 / np.sqrt((x.value**2).mean(axis=-1, keepdims=True) + np.float64(np.float32(eps)))
    relative = (wide / 16 + 6) / 2 * U + 6 * U
    value = x.value * factor * (1 if weight is None else weight)
    scale = factor * (1 if weight is None else abs(weight))
    # the norm is not changed by more than its inputs are, at worst all by the same share
    share = (x.error / np.maximum(abs(x.value), 1e-300)).max(axis=-1, keepdims=True) if x.error.any() else 0.0
    return Near(value, abs(value) * (relative + 2 * share) + x.error * scale * (1 + relative) + TINY)


def layer_norm(x: Near, weight: np.ndarray | None, bias: np.ndarray | None, eps: float) -> Near:
    """An RMS norm of what is left of x without its mean, which is off by what its sum is; then a sum with the bias."""
    wide = x.value.shape[-1]
    off = (wide / 16 + 8) * U * abs(x.value).mean(axis=-1, keepdims=True) + U * x.most
    centred = Near(x.value - x.value.mean(axis=-1, keepdims=True), x.error + off)
    factor = 1 / np.sqrt((centred.value**2).mean(axis=-1, keepdims=True) + np.float64(np.float32(eps)))
    scale = factor * (1 if weight is None else abs(weight))
    value = centred.value * factor * (1 if weight is None else weight)
    # of the variance: each term by its own, relative to the whole
    share = centred.error.max(axis=-1, keepdims=True) * factor
    error = abs(value) * ((wide / 16 + 12) * U + 2 * share) + centred.error * scale
    add = 0 if bias is None else bias
    return Near(value + add, error + U * (abs(value) + 2 * abs(add)) + TINY)


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def activation(name: str, gate: Near, up: Near | None) -> Near:
    """act(gate) * up. Errors: what the slope makes of the gate's, and the function's own."""
    g, one = gate.value, np.ones_like(gate.value)
    up = up or known(one)
    slope, own = 1.2 * one, 12 * U * abs(g)
    if name == "silu":
        value = g * sigmoid(g)
    elif name == "gelu":
        value = 0.5 * g * (1 + erf(g / math.sqrt(2)))
    elif name == "gelu_tanh":
        value = 0.5 * g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))
    elif name == "relu":
        value, own = np.maximum(g, 0), 0 * one
    elif name == "relu2":
        value, slope, own = np.maximum(g, 0) ** 2, 2 * gate.most, U * gate.most**2
    else:  # clamped_swiglu: GPT-OSS
        g = np.minimum(g, 7)
        value, slope, own = g * sigmoid(1.702 * g), 1.2 * one, 12 * U * abs(g)
        up = Near(np.clip(up.value, -7, 7) + 1, up.error + 8 * U)
    return Near(value, slope * gate.error + own) * up


def check(found: mx.array, expected: Near, what: str = "") -> None:
    """Every value of `found` lies within its bound."""
    near = expected.stored(found.dtype)
    assert found.shape == near.value.shape, f"{what}: shape {found.shape}, not {near.value.shape}"
    got = wide(found)
    assert np.isfinite(got).all(), f"{what}: not finite"
    beyond = abs(got - near.value) - near.error
    if beyond.size and beyond.max() > 0:
        at = np.unravel_index(beyond.argmax(), beyond.shape)
        off = abs(got - near.value)[at]
        raise AssertionError(f"{what}: {got[at]} at {at}, not {near.value[at]}: off by {off}, at most {near.error[at]}")


def check_ieee(found: mx.array, value: np.ndarray, what: str = "") -> None:
    """Equal after rounding to the type of `found`: infinities and NaN in the same places too."""
    wanted = wide(mx.array(value.astype(np.float32)).astype(found.dtype))
    np.testing.assert_array_equal(wide(found), wanted, err_msg=what)
