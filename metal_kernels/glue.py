"""What stands between the products of a decode step, folded into them: 1 to 4 rows at a time.

`project` norms rows on their way into up to three matrices; `heads` norms and rotates queries and keys;
`greedy` finds the best token without writing the logits down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from .check import SMALL, Quantized, biases_or_scales, floating, need, weight
from .launch import Body, launch, number
from .norms import Normed, unpacked
from .products import MOST_VECTORS, vector_template
from .tiles import STANDARD, VectorTile

HEADERS = ("weights.h", "products.h")
PROJECT = Body(
    "project",
    (
        *("x", "norm", "eps", "w0", "scales0", "biases0", "w1", "scales1", "biases1"),
        *("w2", "scales2", "biases2", "added"),
    ),
    ("y",),
    HEADERS,
)
HEADS = Body("heads", ("x", "q_norm", "k_norm", "freqs", "positions", "eps"), ("q", "k"))
GREEDY = Body("greedy", ("x", "norm", "eps", "w", "scales", "biases"), ("best", "ids"), HEADERS)
BEST = Body("best", ("values", "ids"), ("id",))
MOST_MATRICES = 3
AT_ONCE = 8  # blocks of outputs that a simdgroup of `greedy` goes through
BEST_SIMDGROUPS = 8


@dataclass(frozen=True, slots=True)
class HeadTurn:
    """How heads are turned: position / freqs[i] for pair i of the first 2 * len(freqs) values."""

    freqs: mx.array  # (dims / 2,) float32, infinity: that pair stands still
    scale: float = 1.0
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """The norm of each head of queries and keys."""

    q: mx.array  # (D,)
    k: mx.array
    eps: float


def project(
    x: Normed,
    matrices: Sequence[Quantized],
    added: mx.array | None = None,
    dtype: mx.Dtype | None = None,
    tile: VectorTile = STANDARD.vector,
) -> mx.array:
    """RMSNorm(x) (M, K) times each matrix (Ni, K), side by side: (M, N0 + N1 + N2), plus added (N,); in `dtype`."""
    rows, norm, eps, _ = unpacked(x)
    _check_rows(rows)
    need(1 <= len(matrices) <= MOST_MATRICES, f"{len(matrices)} matrices; the kernel takes 1 to {MOST_MATRICES}.")
    first = matrices[0]
    widths = [_served(w, rows) for w in matrices]
    alike = all((w.mode, w.bits, w.group) == (first.mode, first.bits, first.group) for w in matrices)
    need(alike, "the matrices must be quantized alike.")
    need(added is None or tuple(added.shape) == (sum(widths),), f"added must have shape ({sum(widths)},).")
    per_group = tile.rows * tile.simdgroups
    template = vector_template(first, rows, tile)
    template |= {"O": dtype or rows.dtype, "PARTS": len(matrices), "ADDED": added is not None}
    parts = [a for w in _three(matrices) for a in (w.packed, w.scales, biases_or_scales(w))]
    return launch(
        PROJECT,
        (rows, norm, number(eps), *parts, norm if added is None else added),
        [((rows.shape[0], sum(widths)), dtype or rows.dtype)],
        template,
        groups=(sum(-(-n // per_group) for n in widths), 1, 1),
        threads=32 * tile.simdgroups,
    )[0]


def heads(
    x: mx.array, counts: tuple[int, int, int], positions: mx.array, turn: HeadTurn | None, norm: HeadNorm | None
) -> tuple[mx.array, mx.array]:
    """x (T, at least (H + G) * D) with queries and then keys, counts (H, G, D), positions (T,) int32 ->
    queries (T, H, D) and keys (T, G, D), normed and rotated."""
    floating("x", x)
    queries, keys, size = counts
    need(x.ndim == 2 and x.shape[1] >= (queries + keys) * size, f"x has shape {tuple(x.shape)}; heads are {counts}.")
    need(positions.dtype == mx.int32, f"positions are {positions.dtype}; the kernel takes int32.")
    need(tuple(positions.shape) == (x.shape[0],), f"positions have shape {tuple(positions.shape)}.")
    pairs = 0 if turn is None else turn.freqs.size
    need(2 * pairs <= size, f"{pairs} pairs are turned; a head has {size} values.")
    need(size >= SMALL, f"A head has {size} values; the kernel takes {SMALL} or more.")
    for name, a in (("q", norm.q), ("k", norm.k)) if norm else ():
        need(tuple(a.shape) == (size,), f"the norm of {name} has shape {tuple(a.shape)}; it must be ({size},).")
    need(norm is None or norm.q.dtype == norm.k.dtype, "the norms of q and k must have one type.")
    template = {
        "T": x.dtype,
        "H": queries,
        "G": keys,
        "D": size,
        "PAIRS": pairs,
        "INTERLEAVED": turn is not None and turn.interleaved,
        "NORMED": norm is not None,
    }
    q, k = launch(
        HEADS,
        (
            x,
            x if norm is None else norm.q,
            x if norm is None else norm.k,
            number(0.0) if turn is None else turn.freqs,
            positions,
            number(0.0 if norm is None else norm.eps, 1.0 if turn is None else turn.scale),
        ),
        [((x.shape[0], n, size), x.dtype) for n in (queries, keys)],
        template,
        groups=(queries + keys, x.shape[0], 1),
        threads=32,
    )
    return q, k


def greedy(x: mx.array | Normed, w: Quantized, tile: VectorTile = STANDARD.vector) -> mx.array:
    """x (M, K), w (N, K) -> (M,) uint32: where x @ w.T, rounded to the type of x, is largest; the first of equals.

    2^32 - 1 where one of them is not a number.
    """
    rows, norm, eps, normed = unpacked(x)
    _check_rows(rows)
    outputs = _served(w, rows)
    block = tile.rows * tile.simdgroups * AT_ONCE
    groups = -(-outputs // block)
    values, ids = launch(
        GREEDY,
        (rows, norm, number(eps), w.packed, w.scales, biases_or_scales(w)),
        [((rows.shape[0], groups), mx.float32), ((rows.shape[0], groups), mx.uint32)],
        vector_template(w, rows, tile) | {"AT_ONCE": AT_ONCE, "NORMED": normed},
        groups=(groups, 1, 1),
        threads=32 * tile.simdgroups,
    )
    return best_of(values, ids)


def best_of(values: mx.array, ids: mx.array) -> mx.array:
    """values (M, count) float32, their ids rising along a row -> (M,) the id of the largest, the first of equals.

    2^32 - 1 where one of them is not a number.
    """
    rows, threads = values.shape[0], 32 * BEST_SIMDGROUPS
    template = {"SIMDGROUPS": BEST_SIMDGROUPS}
    return launch(BEST, (values, ids), [((rows,), mx.uint32)], template, groups=(rows, 1, 1), threads=threads)[0]


def _check_rows(x: mx.array) -> None:
    floating("x", x)
    need(x.ndim == 2, f"x has {x.ndim} axes; the kernel takes 2.")
    need(1 <= x.shape[0] <= MOST_VECTORS, f"x has {x.shape[0]} rows; the kernel takes 1 to {MOST_VECTORS}.")


def _served(w: Quantized, x: mx.array) -> int:
    outputs, inner = weight(w, x.dtype)
    need(inner == x.shape[1], f"x has shape {tuple(x.shape)}; w needs (M, {inner}).")
    need(w.scales.size >= SMALL, f"w has {w.scales.size} groups; the kernel takes {SMALL} or more.")
    return outputs


def _three(matrices: Sequence[Quantized]) -> list[Quantized]:
    """Those that are not there are never read."""
    return [*matrices, *[matrices[0]] * (MOST_MATRICES - len(matrices))]
