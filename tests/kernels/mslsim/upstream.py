"""MLX's own quantized kernels, read from the headers of the installed wheel, as kernels for the simulator.

They are the oracle for bits and the baseline for bytes. `qmv`s take the part of a header that needs nothing
of MLX's matrix library, `qmm_t` that library too; what of Metal's own headers it asks for stands in TRAITS.
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


TRAITS = """
namespace metal {
using std::is_integral;
using std::remove_cv_t;
template <class T> using remove_addrspace_t = T;
}
template <bool B, class T, class U> struct ConditionalType { using type = std::conditional_t<B, T, U>; };
struct complex64_t { float real, imag; complex64_t(float r = 0, float i = 0) : real(r), imag(i) {} };
"""
# with address spaces erased these are one and the same
SAME_POINTERS = r"template <typename T>\s*struct pointer_element<(?:device|constant|threadgroup) T\*> \{.*?\};"


@cache
def _matrix_head() -> str:
    seen: set[str] = set()

    def whole(text: str) -> str:
        return re.sub(r'^\s*#include "(.*?)"', lambda m: included(m[1]), text, flags=re.M)

    def included(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return whole((INCLUDE / name).read_text())

    own = (FOLDER / "quantized.h").read_text()
    own = own[: own.rindex("template <", 0, own.index("void qmm_n_impl"))]
    steel = "mlx/backend/metal/kernels/steel/gemm"
    text = included(f"{steel}/loader.h") + included(f"{steel}/mma.h") + whole(own)
    text = re.sub(r"//.*|#pragma once|#include <metal_\w+>", "", text)
    text = re.sub(SAME_POINTERS, "", text, flags=re.S)
    return TRAITS + re.sub(r"\)(\s*const)?\s+(?:thread|threadgroup)(\s*[:{])", r")\1\2", text)


def qmm_t() -> Kernel:
    """Tiles of 32 by 32 by 32; the grid of `run_qmm_t`."""
    body = """constexpr int PADDED = 32 + 16 / sizeof(T);
threadgroup T Xs[32 * PADDED];
threadgroup T Ws[32 * PADDED];
qmm_t_impl<T, GROUP, BITS, ALIGNED>(
    w, scales, biases, x, y, Xs, Ws, dims[0], dims[1], dims[2], dims[0], threadgroup_position_in_grid,
    thread_index_in_threadgroup, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
"""
    return metal_kernel("mlx_qmm_t", AFFINE_INPUTS, ["y"], body, _matrix_head())


def run_qmm_t(kernel: Kernel, x: mx.array, parts: Sequence[mx.array], group: int, bits: int) -> mx.array:
    rows, inner, outputs = x.shape[0], x.shape[1], parts[0].shape[0]
    return kernel(
        inputs=[*parts, x, mx.array([inner, outputs, rows], mx.int32)],
        output_shapes=[(rows, outputs)],
        output_dtypes=[x.dtype],
        template=[("T", x.dtype), ("GROUP", group), ("BITS", bits), ("ALIGNED", outputs % 32 == 0)],
        grid=(-(-outputs // 32) * 32, -(-rows // 32) * 2, 2),
        threadgroup=(32, 2, 2),
    )[0]


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
