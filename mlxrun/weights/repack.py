"""Codes and values -> MLX's affine layout. Everything stays lazy.

A stream of codes runs along the input axis, low bits first. `refit` is for values that no scale and bias a
group can say: it takes the nearest codes between the group's least and greatest value.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from ..ops.quantized import Mode, QuantizedWeight

REFIT_GROUP = 32


def pack(codes: mx.array, bits: int) -> mx.array:
    """(..., in) uint8 -> (..., in * bits / 32) uint32. A row must fill whole words."""
    *rows, width = codes.shape
    if bits == 4:
        stream = codes[..., 0::2] | (codes[..., 1::2] << 4)
    elif bits == 8:
        stream = codes
    else:  # eight codes are `bits` bytes
        shifts = mx.arange(0, 8 * bits, bits).astype(mx.uint64)
        words = (codes.reshape(*rows, width // 8, 8).astype(mx.uint64) << shifts).sum(axis=-1, keepdims=True)
        stream = words.view(mx.uint8)[..., :bits].reshape(*rows, width // 8 * bits)
    return mx.contiguous(stream).view(mx.uint32)


def affine(codes: mx.array, scales: mx.array, biases: mx.array, bits: int) -> QuantizedWeight:
    """codes (..., in), scales and biases (..., groups): value = scale * code + bias."""
    group = codes.shape[-1] // scales.shape[-1]
    return QuantizedWeight(pack(codes, bits), scales, biases, "affine", bits, group)


def floats4(codes: mx.array, scales: mx.array, mode: Mode) -> QuantizedWeight:
    """E2M1 codes with one byte of scale a group, as both formats of that kind have them."""
    return QuantizedWeight(pack(codes, 4), scales, None, mode, 4, codes.shape[-1] // scales.shape[-1])


def refit(values: mx.array, bits: int, group: int = REFIT_GROUP) -> QuantizedWeight:
    """(..., in) float32."""
    grouped = values.reshape(*values.shape[:-1], values.shape[-1] // group, group)
    low, high = grouped.min(axis=-1), grouped.max(axis=-1)
    scales = (high - low) / (2**bits - 1)
    steps = mx.where(scales == 0, 1, scales)
    codes = mx.round((grouped - low[..., None]) / steps[..., None])
    return affine(_codes(codes, bits).reshape(values.shape), scales, low, bits)


def center_codes(values: mx.array, steps: mx.array, bits: int) -> QuantizedWeight:
    """Nearest codes for given steps (..., groups); half of the codes lie below zero."""
    middle = 2 ** (bits - 1)
    group = values.shape[-1] // steps.shape[-1]
    grouped = values.reshape(*steps.shape, group)
    codes = mx.round(grouped / mx.where(steps == 0, 1, steps)[..., None]) + middle
    return affine(_codes(codes, bits).reshape(values.shape), steps, -middle * steps, bits)


def _codes(rounded: mx.array, bits: int) -> mx.array:
    return mx.clip(rounded, 0, 2**bits - 1).astype(mx.uint8)


def relative_error(made: mx.array, wanted: mx.array) -> float:
    """Root mean square of the difference over that of what was wanted."""
    error, size = (float(np.array((part.astype(mx.float32) ** 2).sum())) for part in (made - wanted, wanted))
    return (error / size) ** 0.5 if size else float(error != 0)
