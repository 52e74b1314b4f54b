"""What the kernels ask of their arguments. A ValueError names the argument and what is wrong with it."""

from __future__ import annotations

from typing import Protocol

import mlx.core as mx

FLOATS = (mx.float16, mx.bfloat16, mx.float32)
# Bytes that an input's address must be a multiple of where that is more than one element: codes are read two words at
# a time. Nothing of MLX tells Python an array's offset, so nothing here checks it: arrays of their own, whole rows of
# them and what is mapped by eight bytes are right.
ALIGNED = dict.fromkeys(("w", "w0", "w1", "w2", "gate_w", "up_w"), 8)
SMALL = 8  # smaller inputs live in constant memory, where the kernels do not look
FORMATS = {"affine": 0, "mxfp4": 1, "nvfp4": 2}  # as in weights.h
SERVED = {
    ("affine", 2, 16),
    ("affine", 3, 16),
    ("affine", 6, 16),
    ("affine", 4, 32),
    ("affine", 4, 64),
    ("affine", 4, 128),
    ("affine", 8, 32),
    ("affine", 8, 64),
    ("affine", 8, 128),
    ("mxfp4", 4, 32),
    ("nvfp4", 4, 16),
}


class Quantized(Protocol):
    """A weight as `mx.quantize` lays it out."""

    @property
    def packed(self) -> mx.array: ...  # (..., N, K * bits / 32) uint32
    @property
    def scales(self) -> mx.array: ...  # (..., N, K / group)
    @property
    def biases(self) -> mx.array | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def bits(self) -> int: ...
    @property
    def group(self) -> int: ...


def need(good: bool, sentence: str) -> None:
    if not good:
        raise ValueError(sentence)


def floating(name: str, x: mx.array) -> None:
    need(x.dtype in FLOATS, f"{name} is {x.dtype}; the kernel takes float16, bfloat16 or float32.")


def weight(w: Quantized, dtype: mx.Dtype, ndim: int = 2) -> tuple[int, int]:
    """Checks a weight and gives (N, K)."""
    kind = (w.mode, w.bits, w.group)
    need(kind in SERVED, f"No kernel for mode {w.mode} with {w.bits} bits and groups of {w.group}.")
    need(w.packed.ndim == ndim, f"w has {w.packed.ndim} axes; the kernel takes {ndim}.")
    need(w.packed.dtype == mx.uint32, f"w is {w.packed.dtype}; packed weights are uint32.")
    need(w.packed.size >= SMALL, f"w has {w.packed.size} words; the kernel takes {SMALL} or more.")
    rows, columns = w.packed.shape[-2], w.packed.shape[-1] * 32 // w.bits
    need(columns % w.group == 0, f"K = {columns} is not a multiple of the group of {w.group}.")
    expected = (*w.packed.shape[:-1], columns // w.group)
    need(tuple(w.scales.shape) == expected, f"scales have shape {tuple(w.scales.shape)}; w needs {expected}.")
    if w.mode == "affine":
        need(w.biases is not None and tuple(w.biases.shape) == expected, f"biases of shape {expected} are needed.")
        need(w.scales.dtype == dtype, f"scales are {w.scales.dtype}, x is {dtype}; they must be the same.")
        need(w.biases is not None and w.biases.dtype == dtype, f"biases must be {dtype}, as x is.")
    else:
        need(w.scales.dtype == mx.uint8, f"scales are {w.scales.dtype}; those of {w.mode} are uint8.")
    return rows, columns


def serves(w: Quantized, dtype: mx.Dtype) -> bool:
    """Whether `weight` would accept it."""
    try:
        weight(w, dtype, w.packed.ndim)
    except ValueError:
        return False
    return w.scales.size >= SMALL


def check_residual(residual: mx.array | None, shape: tuple[int, int], dtype: mx.Dtype) -> None:
    if residual is not None:
        need(tuple(residual.shape) == shape, f"residual has shape {tuple(residual.shape)}; it must be {shape}.")
        need(residual.dtype == dtype, f"residual is {residual.dtype}; it must be {dtype}, as x is.")


def biases_or_scales(w: Quantized) -> mx.array:
    """The kernels' input `biases`: never read in a format that has none."""
    return w.scales if w.biases is None else w.biases
