"""Weights and inputs for the tests, each with what it means in float64.

Codes are drawn, not made by quantizing: every code occurs. Their meaning is worked out here in NumPy
from the bits, as the formats define it, and shares nothing with MLX or the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlxrun.cpu_kernels import Packed, native

DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
AFFINE = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (16, 32, 64, 128)]
FLOATS = [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
PLAIN = [("f32", 32, 0), ("f16", 16, 0), ("bf16", 16, 0)]
KINDS = [*AFFINE, *FLOATS, *PLAIN]

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass(frozen=True)
class Made:
    """A packed weight, its values, and how large the terms are that float32 adds up to each of them."""

    packed: Packed
    value: np.ndarray  # (..., N, K) float64
    gross: np.ndarray  # |code * scale| + |bias|
    integers: bool  # `fast` has kernels for it


def array(values: np.ndarray, dtype: mx.Dtype) -> tuple[mx.array, np.ndarray]:
    """In that type, and what is left of the values there."""
    made = mx.array(np.asarray(values, dtype=np.float32)).astype(dtype)
    return made, wide(made)


def wide(a: mx.array) -> np.ndarray:
    return np.array(a.astype(mx.float32), dtype=np.float64)


def packed_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """(..., K) codes to (..., K * bits / 32) words: one stream of bits, low bits first."""
    stream = (codes[..., None] >> np.arange(bits)) & 1
    whole = np.packbits(
        stream.reshape(*codes.shape[:-1], codes.shape[-1] * bits).astype(np.uint8), axis=-1, bitorder="little"
    )
    return whole.view(np.uint32)


def e4m3(code: np.ndarray) -> np.ndarray:
    sign, exponent, mantissa = code >> 7, (code >> 3) & 15, code & 7
    size = np.where(exponent, (8 + mantissa) * 2.0 ** (exponent.astype(float) - 10), mantissa * 2.0**-9)
    return np.where(sign, -size, size)


def affine(random: np.random.Generator, shape: tuple[int, ...], kind: tuple[str, int, int], **how: Any) -> Made:
    """`whole`: small powers of two as scales, so that float32 sums are exact. `symmetric`: no biases needed."""
    _, bits, group = kind
    codes = random.integers(0, 1 << bits, shape)
    grid = (*shape[:-1], shape[-1] // group)
    dtype = how.get("dtype", mx.float16)
    if how.get("whole"):
        scales, s = array(random.choice([-1.0, 1.0] if bits > 4 else [-1.0, 1.0, 2.0], grid), dtype)
    else:
        scales, s = array(random.normal(size=grid) * 0.02, dtype)
    if how.get("symmetric"):
        biases, b = array(-s * (1 << (bits - 1)), dtype)
    elif how.get("whole"):
        biases, b = array(random.integers(-8, 9, grid), dtype)
    else:
        biases, b = array(-s * (1 << (bits - 1)) + random.normal(size=grid) * 0.02, dtype)
    packed = native.pack_quantized(mx.array(packed_codes(codes, bits)), scales, biases, "affine", bits, group)
    product, bias = codes * np.repeat(s, group, axis=-1), np.repeat(b, group, axis=-1)
    return Made(packed, product + bias, abs(product) + abs(bias), True)


def floating(random: np.random.Generator, shape: tuple[int, ...], kind: tuple[str, int, int], **how: Any) -> Made:
    mode, bits, group = kind
    codes = random.integers(0, 1 << bits, shape)
    grid = (*shape[:-1], shape[-1] // group)
    if mode == "nvfp4":
        stored = random.choice([0x38, 0x40, 0xB8], grid) if how.get("whole") else random.integers(0, 0x50, grid)
        s = e4m3(stored)
    else:
        stored = random.integers(127, 130, grid) if how.get("whole") else random.integers(105, 121, grid)
        s = 2.0 ** (stored.astype(float) - 127)
    if mode == "mxfp8":
        codes[(codes & 127) == 127] = 0  # not a number
        if how.get("whole"):
            codes = random.choice([0x38, 0x40, 0xB8, 0], shape)
        value = e4m3(codes)
    else:
        value = FP4[codes]
    words = mx.array(packed_codes(codes, bits))
    packed = native.pack_quantized(words, mx.array(stored.astype(np.uint8)), None, mode, bits, group)
    value, s = value * np.repeat(s, group, axis=-1), np.repeat(abs(s), group, axis=-1)
    # four bits are stored as whole numbers from 0 to 24 and a bias
    return Made(packed, value, abs(value) if bits == 8 else abs(value) + 6 * s, bits == 4)


def plain(random: np.random.Generator, shape: tuple[int, ...], kind: tuple[str, int, int], **how: Any) -> Made:
    values = random.integers(-9, 10, shape) if how.get("whole") else random.normal(size=shape) * 0.05
    stored, value = array(values, DTYPES[kind[0]])
    return Made(native.pack_plain(stored), value, abs(value), False)


def weight(random: np.random.Generator, shape: tuple[int, ...], kind: tuple[str, int, int], **how: Any) -> Made:
    maker = affine if kind[0] == "affine" else plain if kind[0] in DTYPES else floating
    return maker(random, shape, kind, **how)


def name_of(kind: tuple[str, int, int]) -> str:
    return "-".join(map(str, kind)) if kind[0] == "affine" else kind[0]
