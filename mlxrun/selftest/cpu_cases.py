"""The native CPU kernels, in each layout of weights, type, instruction set and precision, with what they must give.

How heads, rotations and whole stacks are put together is not here: models of the part `families` go through them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import mlx.core as mx
import numpy as np

from ..cpu_kernels import native
from ..ops.native import pack
from .truth import KernelCase, Layout, Wide, attended, drawn, gated, normed, product, weight, wide

TYPES = (mx.float32, mx.float16, mx.bfloat16)
AFFINE: tuple[Layout, ...] = tuple(
    ("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (16, 32, 64, 128)
)
LAYOUTS: tuple[Layout, ...] = (*AFFINE, ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16))
EXACT, FAST = 0, 1
BLOCK, TOP = 32, 127 * 128 + 63  # `fast` makes whole numbers of so many inputs, up to this
SHAPES = ((1, 33, 128), (5, 47, 256), (9, 16, 128), (33, 35, 384))
EPS = 1e-5


def cases(layouts: Sequence[Layout] = LAYOUTS, types: Sequence[mx.Dtype] = TYPES) -> Iterator[KernelCase]:
    for layout in layouts:
        for dtype in types:
            yield from products(layout, dtype)
        yield from networks(layout)
    for dtype in types:
        yield from of_rows(dtype)


def named(kernel: str, layout: Layout | None, dtype: mx.Dtype, how: str = "") -> str:
    where = "" if layout is None else f" {'-'.join(map(str, layout))}"
    return f"{kernel}{where} {str(dtype).split('.')[-1]}{how and f' {how}'}"


def with_blocks(x: Wide, value: Wide, fast: bool) -> tuple[Wide, Wide]:
    """The product; terms grow by what whole numbers in place of x can be off by: half a unit of a block's largest."""
    y, terms = product(x, value)
    if fast:
        blocks = np.abs(x).reshape(*x.shape[:-1], -1, BLOCK).max(-1) / TOP
        gross = np.abs(value) + np.abs(value).max(-1, keepdims=True)  # codes and biases apart are larger
        terms = terms + np.repeat(blocks, BLOCK, -1) @ gross.T * 2.0**20
    return y, terms


def products(layout: Layout, dtype: mx.Dtype) -> Iterator[KernelCase]:
    for number, (rows, outputs, inner) in enumerate(SHAPES):
        w, value = weight((outputs, inner), layout, mx.float16, outputs)
        x, precision = drawn((rows, inner), dtype, rows), number % 2
        how = "fast" if precision == FAST else "exact"
        yield KernelCase(
            named("matmul", layout, dtype, how),
            partial(native.matmul, x, pack(w), precision=precision),
            partial(with_blocks, wide(x), value, precision == FAST),
            slack=2.0,
        )


def networks(layout: Layout) -> Iterator[KernelCase]:
    """Norm, gate, up, activation, down and what is added, as one call; a row of a table; a mixture."""
    acts = ("silu", "gelu", "gelu_tanh", "relu", "clamped_swiglu")
    act = acts[LAYOUTS.index(layout) % len(acts)]
    (gate, g), (up, u), (down, d) = (
        weight(shape, layout, mx.float16, seed) for seed, shape in enumerate(((128, 128), (128, 128), (35, 128)), 1)
    )
    x, norm = drawn((3, 128), mx.float32, 4, 0.3), drawn((128,), mx.float32, 5) + 1

    def whole() -> tuple[Wide, Wide]:
        rows = normed(wide(x), wide(norm), EPS)
        hidden = gated(act, rows @ g.T, rows @ u.T)
        y, terms = product(hidden, d)
        inner = np.abs(rows) @ np.abs(u).T * (1 + np.abs(rows @ g.T))
        return y, terms + inner @ np.abs(d).T

    yield KernelCase(
        named(f"feed_forward {act}", layout, mx.float32, "exact"),
        lambda: native.feed_forward(x, pack(gate), pack(up), pack(down), act, norm, EPS, precision=EXACT),
        whole,
        slack=2.0,
    )
    ids = np.array([3, 0, 34, 3])
    yield KernelCase(
        named("table_rows", layout, mx.float32),
        lambda: native.table_rows(mx.array(ids, mx.int32), pack(down), mx.float32),
        lambda: (d[ids], np.abs(d[ids]) + np.abs(d).max()),
    )
    stacks = [weight((4, *shape), layout, mx.float16, seed) for seed, shape in enumerate(((64, 128), (64, 128)), 7)]
    last, e = weight((4, 33, 128), layout, mx.float16, 9)
    chosen, shares = np.array([[1, 3], [0, 1], [3, 2]]), mx.softmax(drawn((3, 2), mx.float32, 6), axis=-1)
    if 64 % layout[2]:
        return
    last, e = weight((4, 33, 64), layout, mx.float16, 9)

    def mixed() -> tuple[Wide, Wide]:
        y, terms = np.zeros((3, 33)), np.zeros((3, 33))
        for row, experts in enumerate(chosen):
            for place, expert in enumerate(experts):
                (_, one), (_, other) = stacks
                left, right = wide(x)[row] @ one[expert].T, wide(x)[row] @ other[expert].T
                hidden, share = gated(act, left, right), wide(shares)[row, place]
                y[row] += share * (hidden @ e[expert].T)
                size = np.abs(hidden) + np.abs(wide(x)[row]) @ np.abs(other[expert]).T * (1 + np.abs(left))
                terms[row] += share * (size @ np.abs(e[expert]).T)
        return y, terms

    yield KernelCase(
        named(f"experts {act}", layout, mx.float32, "exact"),
        lambda: native.experts(
            x, mx.array(chosen, mx.int32), shares, *(pack(w) for w, _ in stacks), pack(last), act, precision=EXACT
        ),
        mixed,
        slack=2.0,
    )


def of_rows(dtype: mx.Dtype) -> Iterator[KernelCase]:
    x, norm = drawn((5, 80), dtype, 1), drawn((80,), dtype, 2) + 1
    yield KernelCase(
        named("rms_norm", None, dtype),
        lambda: native.rms_norm(x, norm, EPS),
        lambda: ((y := normed(wide(x), wide(norm), EPS)), np.abs(y)),
        slack=2.0,
    )
    for heads, groups, rows, keys, size, how in (
        (6, 2, 1, 70, 40, {}),
        (4, 4, 9, 33, 64, {"window": 13}),
        (4, 1, 3, 300, 128, {"softcap": 3.0}),
    ):
        q = drawn((1, heads, rows, size), dtype, 1, 2.0)
        k, v = (drawn((1, groups, keys, size), dtype, seed) for seed in (2, 3))

        def exact(q: mx.array = q, k: mx.array = k, v: mx.array = v, how: dict = how) -> tuple[Wide, float]:
            y = attended(wide(q)[0], wide(k)[0], wide(v)[0], 0.1, **how)[None]
            return y, 32 * float(np.abs(y).max())

        call = partial(native.attention, q, k, v, 0.1, causal=True, **how)
        yield KernelCase(named("attention", None, dtype), call, exact)
