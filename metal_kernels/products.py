"""y = x @ w.T for quantized w, by the number of rows of x: a vector, a few, many.

`qmv` (1 to 4 rows) gives every row the bits that it would get alone; `qmv_few` (1 to 16) works in 8x8
matrices; `qmm` is for prompts, `qmm_experts` for prompts through a mixture. Tiles are arguments because the best one
differs by chip. Knows nothing of which is faster where: that is measured on the machine.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from .check import FORMATS, Quantized, biases_or_scales, check_residual, floating, need, weight
from .launch import Body, Three, launch, number
from .tiles import STANDARD, FewTile, MatrixTile, VectorTile

INPUTS = ("x", "w", "scales", "biases")
QMV = Body("qmv", (*INPUTS, "residual", "scale"), ("y",), ("weights.h", "products.h"))
QMV_FEW = Body("qmv_few", INPUTS, ("y",), ("weights.h", "fragments.h"))
QMM = Body("qmm", (*INPUTS, "ids"), ("y",), ("weights.h", "fragments.h"))
MOST_VECTORS = 4  # more rows of x do not fit into registers
FEW = 16  # rows of x for which qmv_few is meant


def qmv(
    x: mx.array,
    w: Quantized,
    tile: VectorTile = STANDARD.vector,
    residual: mx.array | None = None,
    scale: float = 1.0,
) -> mx.array:
    """x (M, K) with M = 1..4, w (N, K) -> (M, N), times scale, plus residual (M, N)."""
    outputs, _ = _shapes(x, w)
    need(x.shape[0] <= MOST_VECTORS, f"x has {x.shape[0]} rows; the kernel takes 1 to {MOST_VECTORS}.")
    check_residual(residual, (x.shape[0], outputs), x.dtype)
    return launch(
        QMV,
        (x, w.packed, w.scales, biases_or_scales(w), x if residual is None else residual, number(scale)),
        [((x.shape[0], outputs), x.dtype)],
        vector_template(w, x, tile) | {"RESIDUAL": residual is not None, "SCALED": scale != 1.0},
        groups=(-(-outputs // (tile.rows * tile.simdgroups)), 1, 1),
        threads=32 * tile.simdgroups,
    )[0]


def qmv_few(x: mx.array, w: Quantized, tile: FewTile = STANDARD.few) -> mx.array:
    """x (M, K) with M = 1..16 and K a multiple of 32, w (N, K) -> (M, N)."""
    outputs, inner = _shapes(x, w)
    need(x.shape[0] <= FEW, f"x has {x.shape[0]} rows; the kernel takes 1 to {FEW}.")
    need(inner % 32 == 0, f"K = {inner} is not a multiple of 32.")
    own = {"TILES_M": -(-x.shape[0] // 8), "TILES_N": tile.tiles, "SPLIT": tile.split, "BITCAST": tile.bitcast}
    return _product(QMV_FEW, x, w, own, (-(-outputs // (8 * tile.tiles)), 1, 1), 32 * tile.split)


def qmm(x: mx.array, w: Quantized, tile: MatrixTile = STANDARD.matrix) -> mx.array:
    """x (M, K) with K a multiple of 32, w (N, K) -> (M, N). Weights are rounded to the type of x."""
    outputs, inner = _shapes(x, w)
    need(inner % 32 == 0, f"K = {inner} is not a multiple of 32.")
    return _tiled(x, w, w.packed, outputs, tile)


def qmm_experts(x: mx.array, w: Quantized, ids: mx.array, tile: MatrixTile = STANDARD.matrix) -> mx.array:
    """x (M, K) sorted by expert, ids (M,) uint32 rising, w (E, N, K) -> (M, N), each row by its own expert's matrix.

    The weights of an expert are read once for each tile that has rows of it. Ids that fall give the same, slowly.
    """
    outputs, inner = _shapes(x, w, ndim=3)
    need(inner % 32 == 0, f"K = {inner} is not a multiple of 32.")
    need(ids.dtype == mx.uint32 and tuple(ids.shape) == (x.shape[0],), f"ids must be uint32 of shape ({x.shape[0]},).")
    return _tiled(x, w, ids, outputs, tile)


def vector_template(w: Quantized, x: mx.array, tile: VectorTile) -> dict[str, Any]:
    """The template arguments that every kernel has whose work is products.h."""
    own = {"M": x.shape[0], "ROWS": tile.rows, "SIMDGROUPS": tile.simdgroups, "BITCAST": tile.bitcast}
    return {"T": x.dtype, "FORMAT": FORMATS[w.mode], "BITS": w.bits, "GROUP": w.group, **own}


def _tiled(x: mx.array, w: Quantized, ids: mx.array, outputs: int, tile: MatrixTile) -> mx.array:
    """One matrix has no use for ids, and does not read them."""
    own = {"BM": tile.rows, "BN": tile.outputs, "BITCAST": tile.bitcast, "SORTED": w.packed.ndim == 3}
    groups = (-(-outputs // tile.outputs), -(-x.shape[0] // tile.rows), 1)
    return _product(QMM, x, w, own, groups, 128, (ids,))


def _shapes(x: mx.array, w: Quantized, ndim: int = 2) -> tuple[int, int]:
    """Checks both and gives (N, K)."""
    floating("x", x)
    outputs, inner = weight(w, x.dtype, ndim)
    need(x.ndim == 2 and x.shape[1] == inner, f"x has shape {tuple(x.shape)}; w needs (M, {inner}).")
    need(x.shape[0] > 0, "x has no rows.")
    return outputs, inner


def _product(
    body: Body,
    x: mx.array,
    w: Quantized,
    own: dict[str, int],
    groups: Three,
    threads: int,
    more: tuple[mx.array, ...] = (),
) -> mx.array:
    template = {"T": x.dtype, "FORMAT": FORMATS[w.mode], "BITS": w.bits, "GROUP": w.group, **own}
    inputs = (x, w.packed, w.scales, biases_or_scales(w), *more)
    shape = (x.shape[0], w.packed.shape[-2])
    return launch(body, inputs, [(shape, x.dtype)], template, groups=groups, threads=threads)[0]
