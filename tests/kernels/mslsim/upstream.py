"""MLX's own quantized kernels, read from the headers of the installed wheel, as kernels for the simulator.

They are the oracle for bits and the baseline for bytes. Only the part of a header that needs nothing
of MLX's matrix library is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import mlx.core as mx

from .simulator import Kernel, metal_kernel

INCLUDE = Path(mx.__file__).parent / "include"
FOLDER = INCLUDE / "mlx/backend/metal/kernels"
PLACE = "threadgroup_position_in_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup"
AFFINE_INPUTS = ("w", "scales", "biases", "x", "dims")  # dims: K, N, M
FLOAT_INPUTS = ("w", "scales", "x", "dims")


@cache
def _head(name: str, until: str) -> str:
    """The text before the template whose function is `until`, with MLX's own includes written in."""
    text = (FOLDER / name).read_text()
    text = text[: text.rindex("template <", 0, text.index(until))]
    text = re.sub(r'#include "(.*?)"', lambda m: (INCLUDE / m[1]).read_text(), text)
    text = re.sub(r"#pragma once|#include <metal_\w+>", "", text)
    return re.sub(r"\)( const)? thread( :|\s*\{)", r")\1\2", text)  # a member's address space


def qmv(fast: bool = True) -> Kernel:
    call = f"{'qmv_fast_impl' if fast else 'qmv_impl'}<T, GROUP, BITS>"
    body = f"{call}(w, scales, biases, x, y, dims[0], dims[1], {PLACE});"
    return metal_kernel("mlx_qmv", AFFINE_INPUTS, ["y"], body, _head("quantized.h", "void qvm_impl"))


def qmv_wide() -> Kernel:
    body = f"qmv_wide_impl<T, GROUP, BITS, VECTORS, 8>(w, scales, biases, x, y, dims[0], dims[1], dims[2], {PLACE});"
    return metal_kernel("mlx_qmv_wide", AFFINE_INPUTS, ["y"], body, _head("quantized.h", "void qvm_impl"))


def fp_qmv() -> Kernel:
    body = f"fp_qmv_fast_impl<T, GROUP, BITS>(w, scales, (const device float*)0, x, y, dims[0], dims[1], {PLACE});"
    return metal_kernel("mlx_fp_qmv", FLOAT_INPUTS, ["y"], body, _head("fp_quantized.h", "void fp_qvm_impl"))


def run(
    kernel: Kernel, x: mx.array, parts: Sequence[mx.array], template: dict[str, object], rows_at_once: int = 1
) -> mx.array:
    """y (M, N), as MLX launches it: one row of the grid for each tile of rows of x, 8 outputs a threadgroup."""
    rows, inner, outputs = x.shape[0], x.shape[1], parts[0].shape[0]
    return kernel(
        inputs=[*parts, x, mx.array([inner, outputs, rows], mx.int32)],
        output_shapes=[(rows, outputs)],
        output_dtypes=[x.dtype],
        template=[("T", x.dtype), *template.items()],
        grid=(-(-rows // rows_at_once) * 32, -(-outputs // 8) * 2, 1),
        threadgroup=(32, 2, 1),
    )[0]
