"""What the tests of Metal kernels share: random weights, the float64 truth, errors."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

FLOATS = (mx.float16, mx.bfloat16, mx.float32)
FORMATS = (
    ("affine", 4, 32),
    ("affine", 4, 64),
    ("affine", 4, 128),
    ("affine", 8, 64),
    ("mxfp4", 4, 32),
    ("nvfp4", 4, 16),
)
# an output is rounded once, from a sum in float32
ROUNDING = {mx.float16: 2.0**-11, mx.bfloat16: 2.0**-8, mx.float32: 2.0**-20}


@dataclass(frozen=True)
class Weight:
    packed: mx.array
    scales: mx.array
    biases: mx.array | None
    mode: str
    bits: int
    group: int

    @property
    def parts(self) -> tuple[mx.array, ...]:
        return (self.packed, self.scales) if self.biases is None else (self.packed, self.scales, self.biases)

    @property
    def nbytes(self) -> int:
        return sum(p.nbytes for p in self.parts)

    def exact(self) -> np.ndarray:
        """The weight as float64, worked out from the codes alone."""
        wide = [p.astype(mx.float32) if self.mode == "affine" else p for p in self.parts[1:]]
        full = mx.dequantize(
            self.packed, *wide, group_size=self.group, bits=self.bits, mode=self.mode, dtype=mx.float32
        )
        return np.array(full, np.float64)


def random(shape: tuple[int, ...], dtype: mx.Dtype, seed: int, scale: float = 1.0) -> mx.array:
    return (mx.random.normal(shape, key=mx.random.key(seed)) * scale).astype(dtype)


def weight(shape: tuple[int, ...], form: tuple[str, int, int], dtype: mx.Dtype, seed: int = 1) -> Weight:
    mode, bits, group = form
    # columns of very different size: a swapped group or nibble then shows in every output
    full = random(shape, mx.float32, seed) * mx.exp(random(shape[-1:], mx.float32, seed + 100))
    made = mx.quantize(full.astype(dtype), group_size=group, bits=bits, mode=mode)
    return Weight(made[0], made[1], made[2] if len(made) > 2 else None, mode, bits, group)


def wide(a: mx.array) -> np.ndarray:
    return np.array(a.astype(mx.float32), np.float64)


def close(got: mx.array, exact: np.ndarray, terms: np.ndarray | float, slack: float = 2.0) -> None:
    """Each output within its own rounding and that of a float32 sum whose terms add up to `terms` in size."""
    allowed = slack * ROUNDING[got.dtype] * np.abs(exact) + slack * 2.0**-21 * terms + 1e-30
    error = np.abs(wide(got) - exact)
    assert got.shape == exact.shape
    assert np.isfinite(error).all()
    worst = np.unravel_index((error / allowed).argmax(), error.shape)
    assert (error <= allowed).all(), f"{worst}: {wide(got)[worst]} for {exact[worst]}, allowed {allowed[worst]}"


def normed(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """RMSNorm over the last axis, in float64."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def turned(x: np.ndarray, positions: np.ndarray, freqs: np.ndarray, scale: float, interleaved: bool) -> np.ndarray:
    """x (T, heads, D) with its first 2 * len(freqs) values turned pair by pair, in float64."""
    y, pairs = x.copy(), len(freqs)
    i, j = (
        (np.arange(pairs) * 2, np.arange(pairs) * 2 + 1)
        if interleaved
        else (np.arange(pairs), np.arange(pairs) + pairs)
    )
    angle = (positions[:, None] / freqs)[:, None]
    y[..., i] = scale * (x[..., i] * np.cos(angle) - x[..., j] * np.sin(angle))
    y[..., j] = scale * (x[..., i] * np.sin(angle) + x[..., j] * np.cos(angle))
    return y
