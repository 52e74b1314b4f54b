"""Blocks of ggml's quantized types, (..., blocks a row, bytes) uint8 -> weights or values. Everything stays lazy.

A type whose blocks are affine in groups of 32 or more becomes an affine weight without loss: scales are float32
where a product of a half float and an integer needs them. Three have groups of 16, which MLX has not and our CPU
kernels have (`*_by16`: their own bits, exact). In MLX's layouts:
  Q3_K  d * scale * q is d times a whole number of -124 to 128, so 8 bits hold it exactly
  Q6_K  8 bits, steps of a quarter of the larger of two neighbouring scales: that half is exact
  Q2_K  refitted
The layouts are those of ggml-quants.c. Codebook types are in gguf_codebooks.py.
"""

from __future__ import annotations

import mlx.core as mx

from ..ops.quantized import QuantizedWeight
from .repack import affine, center_codes, floats4

SUPER = 256  # values a block of the K types


def fields(raw: mx.array, runs: int, bits: int) -> mx.array:
    """Bytes cut into runs; a run's lowest fields come first, all of them, then the next higher ones."""
    shifts = mx.arange(0, 8, bits).astype(mx.uint8).reshape(-1, 1)
    cut = raw.reshape(*raw.shape[:-1], runs, 1, raw.shape[-1] // runs)
    return ((cut >> shifts) & (2**bits - 1)).reshape(*raw.shape[:-1], raw.shape[-1] * 8 // bits)


def half(blocks: mx.array, at: int) -> mx.array:
    """(..., n, 1) float32."""
    return mx.contiguous(blocks[..., at : at + 2]).view(mx.float16).astype(mx.float32)


def signed(raw: mx.array) -> mx.array:
    return mx.contiguous(raw).view(mx.int8).astype(mx.float32)


def whole(raw: mx.array) -> mx.array:
    return raw.astype(mx.float32)


def rows(parts: mx.array) -> mx.array:
    """(..., n, k) -> (..., n * k): what blocks hold, side by side."""
    return parts.reshape(*parts.shape[:-2], parts.shape[-2] * parts.shape[-1])


def _affine(codes: mx.array, scales: mx.array, biases: mx.array, bits: int) -> QuantizedWeight:
    return affine(rows(codes), rows(scales), rows(biases), bits)


def _around(codes: mx.array, scales: mx.array, middle: int, bits: int) -> QuantizedWeight:
    return _affine(codes, scales, -middle * scales, bits)


def _twice(d: mx.array) -> mx.array:
    """One scale of a block of 256 for each of its groups of 128."""
    return mx.concatenate([d, d], axis=-1)


# ---- groups of 32 -------------------------------------------------------------------------------


def q4_0(b: mx.array) -> QuantizedWeight:
    return _around(fields(b[..., 2:], 1, 4), half(b, 0), 8, 4)


def q4_1(b: mx.array) -> QuantizedWeight:
    return _affine(fields(b[..., 4:], 1, 4), half(b, 0), half(b, 2), 4)


def q5_0(b: mx.array) -> QuantizedWeight:
    return _around(_five(b[..., 2:]), half(b, 0), 16, 5)


def q5_1(b: mx.array) -> QuantizedWeight:
    return _affine(_five(b[..., 4:]), half(b, 0), half(b, 2), 5)


def _five(raw: mx.array) -> mx.array:
    """The fifth bits of 32 values, then their nibbles."""
    return fields(raw[..., 4:], 1, 4) | (fields(raw[..., :4], 4, 1) << 4)


def q8_0(b: mx.array) -> QuantizedWeight:
    return _around(b[..., 2:] ^ 0x80, half(b, 0), 128, 8)


def mxfp4(b: mx.array) -> QuantizedWeight:
    return floats4(rows(fields(b[..., 1:], 1, 4)), rows(b[..., :1]), "mxfp4")


def mxfp4_raw(b: mx.array) -> QuantizedWeight:
    """Codes as the authors of MXFP4 order them: neighbours share a byte, the first one its low half."""
    codes = mx.stack([b[..., 1:] & 15, b[..., 1:] >> 4], axis=-1)
    return floats4(rows(rows(codes)), rows(b[..., :1]), "mxfp4")


def nvfp4(b: mx.array) -> QuantizedWeight:
    """Four groups of 16; a scale of 0x7F means zero there, and not a number in MLX."""
    scales = b[..., :4]
    scales = mx.where(scales == 0x7F, mx.array(0, mx.uint8), scales)
    return floats4(rows(fields(b[..., 4:], 4, 4)), rows(scales), "nvfp4")


# ---- blocks of 256 ------------------------------------------------------------------------------


def q4_k(b: mx.array) -> QuantizedWeight:
    scales, mins = _six(b[..., 4:16])
    return _affine(fields(b[..., 16:], 4, 4), half(b, 0) * scales, -half(b, 2) * mins, 4)


def q5_k(b: mx.array) -> QuantizedWeight:
    scales, mins = _six(b[..., 4:16])
    codes = fields(b[..., 48:], 4, 4) | (fields(b[..., 16:48], 1, 1) << 4)
    return _affine(codes, half(b, 0) * scales, -half(b, 2) * mins, 5)


def _six(raw: mx.array) -> tuple[mx.array, mx.array]:
    """Eight scales and eight minima of six bits in twelve bytes: the last four of each lie in pieces."""
    low, mid, high = raw[..., :4], raw[..., 4:8], raw[..., 8:]
    scales = mx.concatenate([low & 63, (high & 15) | ((low >> 2) & 48)], axis=-1)
    mins = mx.concatenate([mid & 63, (high >> 4) | ((mid >> 2) & 48)], axis=-1)
    return whole(scales), whole(mins)


def q3_k(b: mx.array) -> QuantizedWeight:
    products = _scaled(whole(_q3_codes(b)) - 4, _q3_scales(b))  # -124 to 128, so 128 minus that is a byte
    return _around((128 - products).astype(mx.uint8), -_twice(half(b, 108)), 128, 8)


def q3_k_by16(b: mx.array) -> QuantizedWeight:
    return _around(_q3_codes(b), half(b, 108) * _q3_scales(b), 4, 3)


def _q3_codes(b: mx.array) -> mx.array:
    return fields(b[..., 32:96], 2, 2) | (fields(b[..., :32], 1, 1) << 2)


def _q3_scales(b: mx.array) -> mx.array:
    raw = b[..., 96:108]
    return whole(fields(raw[..., :8], 1, 4) | (fields(raw[..., 8:], 1, 2) << 4)) - 32


def q8_k(b: mx.array) -> QuantizedWeight:
    """A float32 scale; the sums of codes at the end are not needed."""
    d = mx.contiguous(b[..., :4]).view(mx.float32)
    return _around(b[..., 4:260] ^ 0x80, _twice(d), 128, 8)


def q6_k(b: mx.array) -> QuantizedWeight:
    steps = _q6_scales(b).reshape(*b.shape[:-1], SUPER // 32, 2)
    larger = mx.abs(steps[..., 0]) >= mx.abs(steps[..., 1])
    return center_codes(rows(q6_k_values(b)), rows(mx.where(larger, steps[..., 0], steps[..., 1])) / 4, 8)


def q6_k_by16(b: mx.array) -> QuantizedWeight:
    return _around(_q6_codes(b), _q6_scales(b), 32, 6)


def q6_k_values(b: mx.array) -> mx.array:
    return _scaled(whole(_q6_codes(b)) - 32, _q6_scales(b))


def _q6_codes(b: mx.array) -> mx.array:
    return fields(b[..., :128], 2, 4) | (fields(b[..., 128:192], 2, 2) << 4)


def _q6_scales(b: mx.array) -> mx.array:
    return half(b, 208) * signed(b[..., 192:208])


def q2_k_by16(b: mx.array) -> QuantizedWeight:
    return _affine(fields(b[..., 16:80], 2, 2), *_q2_scales(b), 2)


def q2_k_values(b: mx.array) -> mx.array:
    codes, (scales, biases) = _by16(whole(fields(b[..., 16:80], 2, 2))), _q2_scales(b)
    return (scales[..., None] * codes + biases[..., None]).reshape(*b.shape[:-1], SUPER)


def _q2_scales(b: mx.array) -> tuple[mx.array, mx.array]:
    """(scales, biases)"""
    raw = b[..., :16]
    return half(b, 80) * whole(raw & 15), -half(b, 82) * whole(raw >> 4)


def _by16(values: mx.array) -> mx.array:
    return values.reshape(*values.shape[:-1], SUPER // 16, 16)


def _scaled(codes: mx.array, scales: mx.array) -> mx.array:
    return (_by16(codes) * scales[..., None]).reshape(codes.shape)


# ---- three values -------------------------------------------------------------------------------


def tq1_0(b: mx.array) -> QuantizedWeight:
    """Five of them a byte, as digits of a fraction in base three; the last four bytes hold four."""
    digits = [
        (b[..., first:stop, None].swapaxes(-1, -2) * mx.array([1, 3, 9, 27, 81][:count], mx.uint8)[:, None])
        for first, stop, count in ((0, 32, 5), (32, 48, 5), (48, 52, 4))
    ]
    spread = mx.concatenate([rows(part) for part in digits], axis=-1)
    codes = ((spread.astype(mx.uint16) * 3) >> 8).astype(mx.uint8)
    return _around(codes, _twice(half(b, 52)), 1, 2)


def tq2_0(b: mx.array) -> QuantizedWeight:
    return _around(fields(b[..., :64], 2, 2), _twice(half(b, 64)), 1, 2)
