"""Weights and inputs that are drawn, and what kernels must make of them, in float64 by NumPy alone.

Every code of a layout occurs, and what it means is worked out here from its bits, as the layouts define it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..ops.quantized import Mode, QuantizedWeight

Wide = NDArray[np.float64]
Layout = tuple[str, int, int]  # mode, bits, group
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
# the largest relative error of one rounding; half a step where numbers are smallest
ROUNDING = {mx.float32: 2.0**-20, mx.float16: 2.0**-11, mx.bfloat16: 2.0**-8}
SUM = 2.0**-21  # what a float32 sum may be off by, of the sizes of its terms together
LEAST = 1e-7


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One call of a kernel."""

    name: str  # kernel, layout and type: cases of one name are told together
    call: Callable[[], mx.array]
    exact: Callable[[], tuple[Wide, Wide | float]]  # what it must give, and the sizes of the terms of its sums
    slack: float = 4.0
    twin: Callable[[], mx.array] | None = None  # must have the same bits; `exact` is then not asked


def wide(a: mx.array) -> Wide:
    return np.array(a.astype(mx.float32), dtype=np.float64)


def drawn(shape: tuple[int, ...], dtype: mx.Dtype, seed: int, scale: float = 1.0) -> mx.array:
    return (mx.random.normal(shape, key=mx.random.key(seed)) * scale).astype(dtype)


def weight(shape: tuple[int, ...], layout: Layout, dtype: mx.Dtype, seed: int = 1) -> tuple[QuantizedWeight, Wide]:
    """And its values."""
    mode, bits, group = layout
    random = np.random.default_rng(seed)
    codes: NDArray[Any] = random.integers(0, 1 << bits, shape)
    grid = (*shape[:-1], shape[-1] // group)
    if mode == "mxfp8":
        codes[(codes & 127) == 127] = 0  # not a number
    stream = ((codes[..., None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(*shape[:-1], -1)
    words = mx.array(np.packbits(stream, axis=-1, bitorder="little").view(np.uint32))
    biases: mx.array | None = None
    value: Wide
    if mode == "affine":
        scales = mx.array((random.normal(size=grid) * 0.02).astype(np.float32)).astype(dtype)
        middle = -wide(scales) * (1 << (bits - 1)) + random.normal(size=grid) * 0.02
        biases = mx.array(middle.astype(np.float32)).astype(dtype)
        value = codes * np.repeat(wide(scales), group, -1) + np.repeat(wide(biases), group, -1)
    else:
        stored = random.integers(0x20, 0x38, grid) if mode == "nvfp4" else random.integers(118, 125, grid)
        size = e4m3(stored) if mode == "nvfp4" else 2.0 ** (stored - 127.0)
        value = (e4m3(codes) / 64 if mode == "mxfp8" else FP4[codes]) * np.repeat(size, group, -1)
        if mode == "mxfp8":
            stored = stored - 6  # for the division by 64
        scales = mx.array(stored.astype(np.uint8))
    return QuantizedWeight(words, scales, biases, cast(Mode, mode), bits, group), value


def e4m3(code: NDArray[Any]) -> Wide:
    sign, exponent, mantissa = code >> 7, (code >> 3) & 15, code & 7
    size = np.where(exponent, (8 + mantissa) * 2.0 ** (exponent.astype(float) - 10), mantissa * 2.0**-9)
    return np.where(sign, -size, size)


def product(x: Wide, value: Wide) -> tuple[Wide, Wide]:
    """x @ value^T, and the sizes of the terms."""
    return x @ value.swapaxes(-1, -2), np.abs(x) @ np.abs(value).swapaxes(-1, -2)


def normed(x: Wide, weight: Wide | float, eps: float) -> Wide:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def gated(act: str, gate: Wide, up: Wide) -> Wide:
    if act == "gelu":
        return 0.5 * gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2))) * up
    if act == "gelu_tanh":
        return 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) * up
    if act == "relu":
        return np.maximum(gate, 0) * up
    if act == "clamped_swiglu":
        gate = np.minimum(gate, 7.0)
        return gate / (1 + np.exp(-1.702 * gate)) * (np.clip(up, -7, 7) + 1)
    return gate / (1 + np.exp(-gate)) * up


def turned(x: Wide, positions: NDArray[Any], freqs: Wide) -> Wide:
    """x (T, heads, D), the first and the second half of 2 * len(freqs) values of each head in pairs."""
    y, pairs = x.copy(), len(freqs)
    angle = (positions[:, None] / freqs)[:, None]
    one, other = x[..., :pairs], x[..., pairs : 2 * pairs]
    y[..., :pairs] = one * np.cos(angle) - other * np.sin(angle)
    y[..., pairs : 2 * pairs] = one * np.sin(angle) + other * np.cos(angle)
    return y


def attended(q: Wide, keys: Wide, values: Wide, scale: float, *, window: int = 0, softcap: float = 0.0) -> Wide:
    """The last query row at the last key: q (H, L, D), keys (G, S, D), values (G, S, V) -> (H, L, V)."""
    share, rows, count = len(q) // len(keys), q.shape[1], keys.shape[1]
    scores = q @ np.repeat(keys, share, 0).swapaxes(-1, -2) * scale
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    key, query = np.arange(count), np.arange(rows)[:, None] + count - rows
    seen = (key <= query) & ((key > query - window) if window else True)
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ np.repeat(values, share, 0)


def beyond(found: mx.array, exact: Wide, terms: Wide | float, slack: float) -> float:
    """The largest error as a part of what is allowed: above 1 it is wrong. Infinite where it is no number."""
    got = wide(found)
    if got.shape != exact.shape or not np.isfinite(got).all():
        return math.inf
    allowed = slack * (ROUNDING[found.dtype] * np.abs(exact) + SUM * np.asarray(terms) + LEAST)
    return float((np.abs(got - exact) / allowed).max()) if got.size else 0.0
