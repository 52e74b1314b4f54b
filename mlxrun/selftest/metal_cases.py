"""Every Metal kernel of ours, in each layout of weights, type and cut, on ragged shapes, with what it must give.

Shapes are small: a launch is compared, not timed. Each case compiles a kernel of its own; the types that models use
most come first, for who has no time for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import mlx.core as mx
import numpy as np

from ..metal_kernels.attention import Pages, ScoreRule, paged_attention
from ..metal_kernels.check import SERVED
from ..metal_kernels.experts import ACTIVATIONS, Rule, experts_in, experts_out, route, router_logits
from ..metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from ..metal_kernels.norms import Normed
from ..metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from ..metal_kernels.tiles import CUTS, Cut
from .truth import KernelCase, Layout, Wide, attended, drawn, gated, normed, product, turned, weight, wide

TYPES = (mx.bfloat16, mx.float16, mx.float32)
LAYOUTS: tuple[Layout, ...] = tuple(sorted(SERVED, key=lambda one: (one != ("affine", 4, 64), one)))
EPS = 1e-5
IDS = np.array([[1, 4], [4, 0], [2, 4], [4, 3], [4, 1]])  # expert 4 serves five rows: more than go at once
WHOLE_TILE = 128  # K of the kernels for many rows: a multiple of every group


def cases(layouts: Sequence[Layout] = LAYOUTS, types: Sequence[mx.Dtype] = TYPES) -> Iterator[KernelCase]:
    for dtype in types:
        for layout in layouts:
            for make in (vectors, several, mixture, glued):
                yield from make(layout, dtype)
        for make_plain in (of_heads, of_pages, of_routers):
            yield from make_plain(dtype)


def named(kernel: str, layout: Layout | None, dtype: mx.Dtype) -> str:
    where = "" if layout is None else f" {'-'.join(map(str, layout))}"
    return f"{kernel}{where} {str(dtype).split('.')[-1]}"


def cut(number: int) -> Cut:
    return list(CUTS.values())[number % len(CUTS)]


def vectors(layout: Layout, dtype: mx.Dtype) -> Iterator[KernelCase]:
    """One to four rows; each has the bits that it has alone."""
    name = named("qmv", layout, dtype)
    for rows, outputs, inner in ((1, 7, 128), (4, 33, 640), (3, 130, 1152), (2, 45, 384)):
        w, value = weight((outputs, inner), layout, dtype, outputs)
        x = drawn((rows, inner), dtype, rows)
        yield KernelCase(name, partial(qmv, x, w, cut(rows - 1).vector), partial(product, wide(x), value))
    alone = lambda: mx.concatenate([qmv(x[i : i + 1], w) for i in range(2)])  # noqa: E731 of the last case
    yield KernelCase(f"{name}, bits of a row alone", lambda: qmv(x, w), lambda: (value, 0.0), twin=alone)


def several(layout: Layout, dtype: mx.Dtype) -> Iterator[KernelCase]:
    for number, (rows, outputs) in enumerate(((5, 21), (16, 70), (11, 130))):
        w, value = weight((outputs, WHOLE_TILE * 3), layout, dtype, outputs)
        x = drawn((rows, WHOLE_TILE * 3), dtype, rows)
        yield KernelCase(
            named("qmv_few", layout, dtype),
            partial(qmv_few, x, w, cut(number).few),
            partial(product, wide(x), value),
        )
    for number, (rows, outputs) in enumerate(((37, 45), (50, 70), (17, 33))):
        w, value = weight((outputs, WHOLE_TILE), layout, dtype, outputs)
        x, rounded = drawn((rows, WHOLE_TILE), dtype, rows), wide(mx.array(value.astype(np.float32)).astype(dtype))
        yield KernelCase(
            named("qmm", layout, dtype),
            partial(qmm, x, w, cut(number).matrix),
            partial(product, wide(x), rounded),
            slack=16.0,
        )
    ids = np.array([0] * 3 + [2] * 35 + [3])
    w, value = weight((4, 37, WHOLE_TILE), layout, dtype)
    x, rounded = drawn((len(ids), WHOLE_TILE), dtype, 2), wide(mx.array(value.astype(np.float32)).astype(dtype))
    yield KernelCase(
        named("qmm_experts", layout, dtype),
        lambda: qmm_experts(x, w, mx.array(ids, mx.uint32)),
        lambda: by_expert(wide(x), rounded, ids),
        slack=16.0,
    )


def by_expert(x: Wide, value: Wide, ids: np.ndarray) -> tuple[Wide, Wide]:
    """Each row by its own expert's matrix."""
    picked = value[ids]
    return np.einsum("pk,pnk->pn", x, picked), np.einsum("pk,pnk->pn", np.abs(x), np.abs(picked))


def mixture(layout: Layout, dtype: mx.Dtype) -> Iterator[KernelCase]:
    acts = list(ACTIVATIONS)
    act = acts[(LAYOUTS.index(layout) + TYPES.index(dtype)) % len(acts)] if layout in LAYOUTS else acts[0]
    ids, pairs, rows = mx.array(IDS, mx.uint32), IDS.ravel(), np.repeat(np.arange(5), 2)
    (gate, g), (up, u), (down, d) = (
        weight(shape, layout, dtype, seed) for seed, shape in enumerate(((5, 19, 384), (5, 19, 384), (5, 21, 384)), 1)
    )
    x, hidden = drawn((5, 384), dtype, 3, 0.1), drawn((10, 384), dtype, 5)
    shares = mx.softmax(drawn((5, 2), mx.float32, 6), axis=-1)

    def inner() -> tuple[Wide, float]:
        sums = [by_expert(wide(x)[rows], one, pairs)[0] for one in (g, u)]
        y = gated(act, *sums)
        return y, 8 * float(np.abs(y).max() + 1)

    def outer() -> tuple[Wide, Wide]:
        y, terms = by_expert(wide(hidden), d, pairs)
        share = wide(shares).reshape(-1, 1)
        return (y * share).reshape(5, 2, -1).sum(1), (terms * share).reshape(5, 2, -1).sum(1)

    for number in range(2):
        tile = cut(number).experts
        yield KernelCase(
            named(f"experts_in {act}", layout, dtype),
            partial(experts_in, x, ids, gate, up, act, (), tile),
            inner,
        )
        yield KernelCase(
            named("experts_out", layout, dtype), partial(experts_out, hidden, ids, shares, down, tile=tile), outer
        )


def glued(layout: Layout, dtype: mx.Dtype) -> Iterator[KernelCase]:
    x, norm = drawn((3, 384), dtype, 2, 0.1), drawn((384,), dtype, 3) + 1
    rows = normed(wide(x), wide(norm), EPS)
    made = [weight((n, 384), layout, dtype, n) for n in (15, 8, 3)]
    yield KernelCase(
        named("project", layout, dtype),
        lambda: project(Normed(x, norm, EPS), [w for w, _ in made], dtype=mx.float32),
        lambda: product(rows, np.concatenate([value for _, value in made])),
        slack=16.0,
    )
    w, value = weight((300, 384), layout, dtype, 9)
    yield KernelCase(
        named("greedy", layout, dtype),
        lambda: greedy(x, w).astype(mx.float32),
        lambda: (value, 0.0),
        twin=lambda: mx.argmax(mx.concatenate([qmv(x[:2], w), qmv(x[2:], w)]), axis=-1).astype(mx.float32),
    )

    broken = mx.where(mx.arange(3)[:, None] == 1, mx.nan, x).astype(dtype)  # one row of three
    yield KernelCase(
        f"{named('greedy', layout, dtype)}, a row that is no number",
        lambda: (greedy(broken, w) == 2**32 - 1).astype(mx.float32),
        lambda: (np.array([0.0, 1.0, 0.0]), 0.0),
    )


def of_heads(dtype: mx.Dtype) -> Iterator[KernelCase]:
    for size, pairs in ((64, 32), (80, 20)):
        x, freqs = drawn((2, 6 * size), dtype, 1, 0.1), 100.0 ** (np.arange(pairs) / pairs)
        norm = HeadNorm(drawn((size,), dtype, 2), drawn((size,), dtype, 3), EPS)
        name = named("heads", None, dtype)
        yield KernelCase(name, partial(heads_together, x, freqs, norm), partial(heads_exact, x, freqs, norm))


POSITIONS = np.array([3, 130])


def heads_together(x: mx.array, freqs: Wide, norm: HeadNorm) -> mx.array:
    turn, positions = HeadTurn(mx.array(freqs, mx.float32)), mx.array(POSITIONS, mx.int32)
    return mx.concatenate(heads(x, (3, 2, norm.q.shape[0]), positions, turn, norm), axis=1)


def heads_exact(x: mx.array, freqs: Wide, norm: HeadNorm) -> tuple[Wide, float]:
    folded = wide(x).reshape(2, 6, -1)
    parts = (folded[:, :3], norm.q), (folded[:, 3:5], norm.k)
    y = np.concatenate([turned(normed(part, wide(w), EPS), POSITIONS, freqs) for part, w in parts], axis=1)
    return y, 32 * float(np.abs(y).max())


PAGE, LENGTHS = 8, (1, 21, 40)  # a part of a page, some pages, all of them
TABLE = np.random.default_rng(4).permutation(15).reshape(3, 5)  # pages in no order


def of_pages(dtype: mx.Dtype) -> Iterator[KernelCase]:
    rules = (ScoreRule(0.1), ScoreRule(0.1, window=13), ScoreRule(0.1, softcap=3.0))
    for number, (count, groups, size) in enumerate(((4, 4, 64), (8, 2, 128), (5, 1, 96), (2, 1, 256))):
        rule, q = rules[number % len(rules)], drawn((3, count, size), dtype, 1, 2.0)
        k, v = (drawn((15, groups, PAGE, size), dtype, seed) for seed in (2, 3))
        places, counts = mx.array(TABLE, mx.uint32), mx.array(LENGTHS, mx.int32)
        tile = cut(number).attention
        call = partial(paged_attention, q, Pages(k), Pages(v), places, counts, rule, tile)
        yield KernelCase(named("paged_attention", None, dtype), call, partial(pages_exact, q, k, v, rule))


def pages_exact(q: mx.array, k: mx.array, v: mx.array, rule: ScoreRule) -> tuple[Wide, float]:
    rows = []
    for row, length in enumerate(LENGTHS):
        keys, values = (np.concatenate([wide(one)[p] for p in TABLE[row]], axis=1)[:, :length] for one in (k, v))
        query = wide(q)[row][:, None]
        rows.append(attended(query, keys, values, rule.scale, window=rule.window, softcap=rule.softcap)[:, 0])
    y = np.stack(rows)
    return y, 8 * float(np.abs(y).max())


def of_routers(dtype: mx.Dtype) -> Iterator[KernelCase]:
    x, norm, router = drawn((3, 70), dtype, 1, 0.1), drawn((70,), dtype, 2), drawn((72, 70), mx.float32, 3)
    rows = normed(wide(x), wide(norm), EPS)
    yield KernelCase(
        named("router_logits", None, dtype),
        lambda: router_logits(Normed(x, norm, EPS), router),
        lambda: product(rows, wide(router)),
        slack=16.0,
    )
    if dtype != mx.float32:
        return
    logits = drawn((3, 72), mx.float32, 5, 2.0)
    for score in ("softmax", "sigmoid", "softmax_topk"):
        call: Callable[[], mx.array] = partial(chosen, logits, Rule(6, score, renorm=True))
        yield KernelCase(named(f"router {score}", None, dtype), call, partial(choice, wide(logits), score))
        # ids past the end would be read as foreign memory by the next kernel
        broken = mx.array(np.where(np.arange(72) % 5 == 0, np.nan, wide(logits)).astype(np.float32))
        broken[2] = mx.nan
        yield KernelCase(
            f"{named(f'router {score}', None, dtype)}, ids of logits that are no numbers",
            partial(ids_in_range, broken, Rule(6, score, renorm=True)),
            lambda: (np.ones((3, 6)), 0.0),
        )


def chosen(logits: mx.array, rule: Rule) -> mx.array:
    ids, weights = route(logits, rule)
    return mx.concatenate([ids.astype(mx.float32), weights], axis=1)


def ids_in_range(logits: mx.array, rule: Rule) -> mx.array:
    return (route(logits, rule)[0] < logits.shape[1]).astype(mx.float32)


def choice(logits: Wide, score: str) -> tuple[Wide, float]:
    """The six best, and their scores made to add up to one."""
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, :6]
    best = np.take_along_axis(logits, ids, -1)
    scores = 1 / (1 + np.exp(-best)) if score == "sigmoid" else np.exp(best - best.max(-1, keepdims=True))
    return np.concatenate([ids, scores / scores.sum(-1, keepdims=True)], axis=1), 1.0
