"""What the tests of Metal kernels share: random weights, the float64 truth, errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels.check import ALIGNED

from .. import lint, mslsim

FLOATS = (mx.float16, mx.bfloat16, mx.float32)
FORMATS = (
    ("affine", 4, 32),
    ("affine", 4, 64),
    ("affine", 4, 128),
    ("affine", 8, 64),
    ("mxfp4", 4, 32),
    ("nvfp4", 4, 16),
)
BY16 = (("affine", 2, 16), ("affine", 3, 16), ("affine", 6, 16))  # which MLX has not
# an output is rounded once, from a sum in float32
ROUNDING = {mx.float16: 2.0**-11, mx.bfloat16: 2.0**-8, mx.float32: 2.0**-20}
LEAST = {mx.float16: 2.0**-25, mx.bfloat16: 1e-30, mx.float32: 1e-30}  # half a step where numbers are smallest


def simulated(**definition: Any) -> mslsim.Kernel:
    """For `launch.made_by`: a kernel in the simulator, its inputs no better aligned than it asks."""
    return mslsim.metal_kernel(**definition, aligned=ALIGNED)


def linted(**definition: Any) -> mslsim.Kernel:
    """The same, and every text of it is linted, where clang is there."""
    return mslsim.metal_kernel(**definition, aligned=ALIGNED, look=None if lint.why_not() else lint.passed)


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
        if self.mode == "affine" and self.group == 16:
            codes, scales, biases = codes_of(self.packed, self.bits), *(wide(p) for p in self.parts[1:])
            return codes * np.repeat(scales, 16, -1) + np.repeat(biases, 16, -1)
        parts = [p.astype(mx.float32) if self.mode == "affine" else p for p in self.parts[1:]]
        full = mx.dequantize(
            self.packed, *parts, group_size=self.group, bits=self.bits, mode=self.mode, dtype=mx.float32
        )
        return np.array(full, np.float64)


def random(shape: tuple[int, ...], dtype: mx.Dtype, seed: int, scale: float = 1.0) -> mx.array:
    return (mx.random.normal(shape, key=mx.random.key(seed)) * scale).astype(dtype)


def weight(shape: tuple[int, ...], form: tuple[str, int, int], dtype: mx.Dtype, seed: int = 1) -> Weight:
    mode, bits, group = form
    # columns of very different size: a swapped group or nibble then shows in every output
    full = random(shape, mx.float32, seed) * mx.exp(random(shape[-1:], mx.float32, seed + 100))
    if form in BY16:
        return by16(full, bits, dtype)
    made = mx.quantize(full.astype(dtype), group_size=group, bits=bits, mode=mode)
    return Weight(made[0], made[1], made[2] if len(made) > 2 else None, mode, bits, group)


def by16(full: mx.array, bits: int, dtype: mx.Dtype) -> Weight:
    """The nearest codes between a group's least and largest value."""
    grouped = np.array(full).reshape(*full.shape[:-1], -1, 16)
    low, high = grouped.min(-1), grouped.max(-1)
    steps = (high - low) / (2**bits - 1)
    codes = np.rint((grouped - low[..., None]) / steps[..., None]).astype(np.uint8).reshape(full.shape)
    stream = ((codes[..., None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(*full.shape[:-1], -1)
    packed = np.packbits(stream, axis=-1, bitorder="little").view(np.uint32)
    return Weight(mx.array(packed), *(mx.array(part).astype(dtype) for part in (steps, low)), "affine", bits, 16)


def codes_of(packed: mx.array, bits: int) -> np.ndarray:
    """Cut out of a stream of bits, low bits first."""
    stream = np.unpackbits(np.array(packed).view(np.uint8), axis=-1, bitorder="little")
    return stream.reshape(*packed.shape[:-1], -1, bits) @ (1 << np.arange(bits))


def wide(a: mx.array) -> np.ndarray:
    return np.array(a.astype(mx.float32), np.float64)


def close(got: mx.array, exact: np.ndarray, terms: np.ndarray | float, slack: float = 2.0) -> None:
    """Each output within its own rounding and that of a float32 sum whose terms add up to `terms` in size."""
    allowed = slack * ROUNDING[got.dtype] * np.abs(exact) + slack * 2.0**-21 * terms + LEAST[got.dtype]
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
