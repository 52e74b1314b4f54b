"""The shortest thorough proof of every kernel file: what faults and mutants of it have to get past.

A proof raises KernelFault (the simulator saw it) or AssertionError (the numbers or bytes are wrong).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import JOIN, ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, best_of, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import AttentionTile, ExpertTile, FewTile, MatrixTile, VectorTile

from .. import mslsim
from ..mslsim import settings, upstream
from . import proofs_not_finite
from . import test_paged_attention as paged
from .made import close, normed, random, simulated, turned, weight, wide

AFFINE4, AFFINE4_32, AFFINE8 = ("affine", 4, 64), ("affine", 4, 32), ("affine", 8, 64)
MXFP4, NVFP4 = ("mxfp4", 4, 32), ("nvfp4", 4, 16)
AFFINE3_16, AFFINE6_16 = ("affine", 3, 16), ("affine", 6, 16)
SECONDS = 10


@contextmanager
def changed(old: str, new: str) -> Iterator[list[bool]]:
    """Kernels whose texts have `new` for `old`; gives whether each text that was made had it."""
    found: list[bool] = []

    def make(**definition: object) -> object:
        texts = {part: str(definition[part]) for part in ("source", "header")}
        found.append(any(old in text for text in texts.values()))
        definition |= {part: text.replace(old, new) for part, text in texts.items()}
        return simulated(**definition)  # type: ignore[arg-type]  # as the caller gave them

    with launch.made_by(make):
        yield found


def _product(
    make: Callable[..., mx.array], form: tuple[str, int, int], shape: tuple[int, int, int], slack: float
) -> int:
    """Gives the bytes of threadgroup memory."""
    m, n, k = shape
    dtype = mx.float32
    w, x = weight((n, k), form, dtype), random((m, k), dtype, 2)
    exact = w.exact()
    for order in (0, 2):
        with settings(order=order, seconds=SECONDS) as launches:
            y = make(x, w)
        close(y, wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack)
    assert launches[0].buffers["w"].fetched <= 1.02 * w.packed.nbytes * -(-m // 16)
    return launches[0].threadgroup_memory.size


def prove_qmv() -> None:
    for form, k in ((AFFINE4, 704), (MXFP4, 544), (NVFP4, 544), (AFFINE8, 320), (AFFINE3_16, 544)):
        _product(lambda x, w: qmv(x, w, VectorTile(2, 2, True)), form, (3, 9, k), 2)
    _product(qmv, AFFINE4_32, (1, 3, 96), 2)
    _product(qmv, AFFINE4_32, (1, 75, 64), 2)  # more outputs than activations
    x, w = random((1, 512), mx.float32, 1), weight((8, 512), AFFINE4, mx.float32)
    with settings(mslsim.Mode.PLAIN):  # in MLX's order
        assert mx.array_equal(qmv(x, w), upstream.run(upstream.qmv(), x, w.parts, {"GROUP": 64, "BITS": 4}))
    # the scales' special values: zero, negative, the largest
    x, w = random((1, 32), mx.float32, 1), weight((4, 32), NVFP4, mx.float32)
    for value in (0, 1, 0x88, 0xB8, 0x7E):
        same = type(w)(w.packed, mx.full(w.scales.shape, value, mx.uint8), None, *NVFP4)
        close(qmv(x, same), wide(x) @ same.exact().T, np.abs(wide(x)) @ np.abs(same.exact().T))
    nothing = type(w)(w.packed, mx.full(w.scales.shape, 0x7F, mx.uint8), None, *NVFP4)
    assert np.isnan(wide(qmv(x, nothing))).all()
    x, w = random((1, 32), mx.float32, 1), weight((4, 32), MXFP4, mx.float32)
    for value in (0, 1, 100, 130):
        large = x * (1e30 if value < 2 else 1)  # or results would be too small to be told from zero
        same = type(w)(w.packed, mx.full(w.scales.shape, value, mx.uint8), None, *MXFP4)
        if value == 0:  # 2^-127 is too small for a GPU: zero there, as in MLX's own form
            assert not wide(qmv(large, same)).any()
            continue
        close(qmv(large, same), wide(large) @ same.exact().T, np.abs(wide(large)) @ np.abs(same.exact().T))

    residual = random((1, 4), mx.float32, 5)
    assert mx.array_equal(qmv(x, w, residual=residual), qmv(x, w) + residual)
    assert mx.array_equal(qmv(x, w, scale=0.5), qmv(x, w) * 0.5)
    assert mx.array_equal(qmv(x, w, residual=residual, scale=-4.0), qmv(x, w) * -4.0 + residual)


def prove_qmv_few() -> None:
    for form, k in ((AFFINE4, 320), (NVFP4, 96), (AFFINE8, 128), (AFFINE6_16, 96)):
        held = _product(lambda x, w: qmv_few(x, w, FewTile(2, 2, True)), form, (11, 21, k), 3)
        assert held == 2 * 16 * 16 * 4  # a part, an output, a vector
    _product(lambda x, w: qmv_few(x, w, FewTile(1, 4)), AFFINE4_32, (5, 8, 96), 3)


def prove_qmm() -> None:
    for form, k in ((AFFINE4, 128), (NVFP4, 64), (AFFINE8, 64), (AFFINE3_16, 64)):
        held = _product(lambda x, w: qmm(x, w, MatrixTile(32, 32, True)), form, (37, 45, k), 3)
        assert held == (32 + 32) * (32 + 4) * 4  # rows of x and of w, 16 bytes longer than what they hold
    for tile, shape in ((MatrixTile(16, 64), (16, 70, 96)), (MatrixTile(64, 16), (50, 20, 64))):
        _product(lambda x, w, tile=tile: qmm(x, w, tile), AFFINE4_32, shape, 3)


def prove_qmm_experts() -> None:
    """A tile of several experts, and an expert of several tiles."""
    ids, tile = np.array([0] * 3 + [2] * 35 + [3]), MatrixTile(16, 32)
    w, x = weight((4, 37, 96), AFFINE4_32, mx.float32), random((39, 96), mx.float32, 2)
    exact, terms = (
        np.einsum("mk,mnk->mn", rows, full[ids])
        for rows, full in ((wide(x), w.exact()), (np.abs(wide(x)), np.abs(w.exact())))
    )
    for order in (0, 2):
        with settings(order=order, seconds=SECONDS):
            close(qmm_experts(x, w, mx.array(ids, mx.uint32), tile), exact, terms, slack=3)


IDS = mx.array([[1, 4], [4, 0], [2, 4], [4, 3], [4, 1]], mx.uint32)


def prove_experts_in() -> None:
    dtype = mx.float32
    sizes = mx.array([3.0, 1.0, 0.3, 0.03, 0.003])[:, None]  # activations bend in other places
    cases = (AFFINE4, "silu", 576), (AFFINE6_16, "silu", 544), (MXFP4, "clamped_swiglu", 160), (AFFINE4_32, "gelu", 32)
    for form, act, k in cases:
        gate, up = weight((5, 7, k), form, dtype), weight((5, 7, k), form, dtype, 2)
        x, added = random((5, k), dtype, 3, 0.1) * sizes, (random((5, 7), dtype, 4), random((5, 7), dtype, 5))
        rows, experts = np.repeat(np.arange(5), 2), np.array(IDS).ravel()
        sums = [
            np.einsum("pk,pnk->pn", wide(x)[rows], w.exact()[experts]) + wide(a)[experts]
            for w, a in zip((gate, up), added, strict=True)
        ]
        for order in (0, 2):
            with settings(order=order, seconds=SECONDS) as launches:
                y = experts_in(x, IDS, gate, up, act, added, ExpertTile(2, 2, True))
            _near(y, _gated(act, *sums))
        assert launches[0].buffers["gate_w"].fetched <= 1.02 * gate.packed.nbytes
        assert launches[0].buffers["gate_w"].asked < 2.01 * gate.packed.nbytes  # 5 rows for one expert: twice
    norm = random((k,), dtype, 8)
    rows = normed(wide(x), wide(norm), EPS)[np.repeat(np.arange(5), 2)]
    normed_sums = [np.einsum("pk,pnk->pn", rows, w.exact()[experts]) for w in (gate, up)]
    with settings(seconds=SECONDS):
        _near(experts_in(Normed(x, norm, EPS), IDS, gate, up, "relu"), _gated("relu", *normed_sums))
    plain = [s - wide(a)[experts] for s, a in zip(sums, added, strict=True)]
    broad = weight((5, 37, 32), AFFINE4_32, dtype, 6)  # more outputs than activations
    sums = [np.einsum("pk,pnk->pn", wide(x)[np.repeat(np.arange(5), 2)], broad.exact()[experts])] * 2
    with settings(seconds=SECONDS):
        _near(experts_in(x, IDS, broad, broad, "silu"), _gated("silu", *sums))
        _near(experts_in(x[:1], IDS[:1], broad, broad, "silu"), _gated("silu", *(s[:2] for s in sums)))
    for act, size in (("gelu", 1.0), ("gelu", 0.004), ("gelu_tanh", 1.0), ("relu", 1.0)):  # small: erf changes sign
        with settings(seconds=SECONDS):
            _near(experts_in(x * size, IDS, gate, up, act), _gated(act, *(s * size for s in plain)))


def _gated(act: str, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    from .test_experts import gated

    return gated(act, gate, up)


def _near(got: mx.array, exact: np.ndarray) -> None:
    assert np.isfinite(wide(got)).all()
    assert (np.abs(wide(got) - exact) <= 1e-5 * (np.abs(exact) + 0.1 * np.abs(exact).max())).all()


def prove_experts_out() -> None:
    for form in (AFFINE4, AFFINE6_16, MXFP4):
        down, hidden = weight((5, 7, 576), form, mx.float32), random((10, 576), mx.float32, 3)
        weights, added = mx.softmax(random((5, 2), mx.float32, 6), axis=-1), random((5, 7), mx.float32, 7)
        experts = np.array(IDS).ravel()
        for a in (added, None):
            products = np.einsum("pk,pnk->pn", wide(hidden), down.exact()[experts]) + (
                0 if a is None else wide(a)[experts]
            )
            exact = (products * wide(weights).reshape(-1, 1)).reshape(5, 2, 7).sum(1)
            for order in (0, 2):
                with settings(order=order, seconds=SECONDS) as launches:
                    _near(experts_out(hidden, IDS, weights, down, a), exact)
        assert launches[0].buffers["w"].fetched <= 1.02 * down.packed.nbytes
        assert launches[0].buffers["w"].asked < 1.38 * down.packed.nbytes  # 5 pairs are more than go together
    broad, few = weight((5, 37, 32), AFFINE4_32, mx.float32, 6), random((2, 32), mx.float32, 5)
    one = (np.einsum("pk,pnk->pn", wide(few), broad.exact()[experts[:2]]) * wide(weights)[:1].T).sum(0)[None]
    with settings(order=2, seconds=SECONDS):  # one row, and more outputs than activations
        _near(experts_out(few, IDS[:1], weights[:1], broad), one)
    ids = (mx.arange(70) % 5).reshape(70, 1).astype(mx.uint32)  # more sums than a simdgroup has lanes
    many, ones = random((70, 32), mx.float32, 8), mx.ones((70, 1))
    with settings(seconds=SECONDS):
        _near(
            experts_out(many, ids, ones, broad), np.einsum("pk,pnk->pn", wide(many), broad.exact()[np.arange(70) % 5])
        )
    residual, plain = random((5, 7), mx.float32, 9), experts_out(hidden, IDS, weights, down)
    assert mx.array_equal(experts_out(hidden, IDS, weights, down, residual=residual), plain + residual)


def prove_router() -> None:
    from .test_experts import routed

    logits, bias = random((3, 72), mx.float32, 1, 2.0), random((72,), mx.float32, 2, 0.1)
    for rule, b in (
        (Rule(6, "sigmoid", renorm=True, scale=2.5, groups=8, top_groups=4), bias),
        (Rule(5, "softmax"), None),
        (Rule(4, "softmax_topk"), None),
        (Rule(2, "sigmoid", groups=24, top_groups=9), bias),
    ):
        expected = routed(wide(logits), rule, None if b is None else wide(b))
        for order in (0, 2):
            with settings(order=order, seconds=SECONDS):
                ids, weights = route(logits, rule, b)
            assert (np.array(ids) == expected[0]).all()
            assert np.abs(np.array(weights) - expected[1]).max() < 1e-6
    far, odd = random((2, 40), mx.float32, 3, 2.0), random((2, 33), mx.float32, 4)
    odd[0, 32] = 9.0
    for given, rule in (
        (far + 200, Rule(5, "softmax")),
        (far - 200, Rule(5, "softmax_topk")),
        (far + 200, Rule(5, "softmax_topk")),
        (odd, Rule(3, "softmax")),
        (odd[:, :32], Rule(3, "softmax", groups=2, top_groups=1)),
        (odd[:, :12], Rule(3, "sigmoid", groups=6, top_groups=2)),
    ):
        expected = routed(wide(given), rule, None)
        with settings(seconds=SECONDS):
            ids, weights = route(given, rule)
        assert (np.array(ids) == expected[0]).all()
        assert np.abs(np.array(weights) - expected[1]).max() < 1e-6
    with settings(seconds=SECONDS):
        pairs = mx.array([[5.0, -9, 3, 2, 4, -7, 0, 0]])  # the two best of a group count, not its best
        assert route(pairs, Rule(2, "sigmoid", groups=4, top_groups=1))[0].tolist() == [[2, 3]]
        assert route(mx.zeros((1, 40)), Rule(5))[0].tolist() == [[0, 1, 2, 3, 4]]
        ties = mx.array([[0.0, 1, 1, 0, 3, 0, 0, 0]])
        assert route(ties, Rule(4))[0].tolist() == [[4, 1, 2, 0]]
        assert route(mx.zeros((1, 8)), Rule(3, groups=4, top_groups=2))[0].tolist() == [[0, 1, 2]]
        grouped = mx.arange(8).astype(mx.float32)[None]
        assert route(grouped, Rule(4, groups=4, top_groups=1))[0].tolist() == [[7, 6, 0, 1]]
        assert route(grouped, Rule(2, groups=8, top_groups=2))[0].tolist() == [[7, 6]]


def prove_router_logits() -> None:
    for rows, experts, width, dtype in ((3, 9, 70, mx.bfloat16), (1, 67, 8, mx.float32), (4, 8, 32, mx.float32)):
        x, norm = random((rows, width), dtype, 1, 0.1), random((width,), dtype, 2)
        router, added = random((experts, width), mx.float32, 3), random((experts,), mx.float32, 4)
        exact = normed(wide(x), wide(norm), EPS) @ wide(router).T
        for order, a in ((0, added), (2, None)):
            with settings(order=order, seconds=SECONDS) as launches:
                _near(router_logits(Normed(x, norm, EPS), router, a), exact + (0 if a is None else wide(a)))
            assert launches[0].buffers["w"].fetched == router.nbytes


EPS = 1e-3


def prove_project() -> None:
    for form, widths, k in (
        (AFFINE4, (15, 7, 3), 704),
        (AFFINE4_32, (8, 17, 3), 96),
        (NVFP4, (9, 2), 544),
        (AFFINE8, (7,), 320),
    ):
        matrices = [weight((n, k), form, mx.float32, n) for n in widths]
        x, norm = random((3, k), mx.float32, 2, 0.1), random((k,), mx.float32, 3)
        rows, added = normed(wide(x), wide(norm), EPS), random((sum(widths),), mx.float32, 4)
        exact = np.concatenate([rows @ w.exact().T for w in matrices], axis=1)
        for order, a in ((0, added), (2, None)):
            with settings(order=order, seconds=SECONDS) as launches:
                y = project(Normed(x, norm, EPS), matrices, a)
            _near(y, exact + (0 if a is None else wide(a)))
        assert all(launches[0].buffers[f"w{i}"].fetched <= 1.02 * w.packed.nbytes for i, w in enumerate(matrices))


def prove_heads() -> None:
    for size, pairs, interleaved, has_norm in ((80, 36, False, True), (64, 32, True, False), (40, 0, False, True)):
        x, positions = random((2, 6 * size), mx.float32, 1, 0.1), mx.array([3, 130], mx.int32)
        freqs = mx.array(100.0 ** (np.arange(pairs) / max(1, pairs)), mx.float32)
        norm = HeadNorm(*(random((size,), mx.float32, s) for s in (2, 3)), EPS) if has_norm else None
        for order in (0, 2):
            with settings(order=order, seconds=SECONDS):
                made = heads(x, (3, 2, size), positions, HeadTurn(freqs, 1.5, interleaved) if pairs else None, norm)
        folded = wide(x).reshape(2, 6, size)
        for got, part, w in zip(made, (folded[:, :3], folded[:, 3:5]), (norm and norm.q, norm and norm.k), strict=True):
            exact = part if w is None else normed(part, wide(w), EPS)
            if pairs:
                exact = turned(exact, np.array(positions), np.array(freqs, np.float64), 1.5, interleaved)
            assert np.abs(wide(got) - exact).max() <= 3e-5 * np.abs(exact).max()


def prove_best() -> None:
    """Winners in every part of the work of 256 threads, alone and beside an equal; ids that are not places."""
    count, places = 600, (0, 1, 31, 32, 33, 255, 256, 257, 511, 512, 570, 599)
    values = np.array(random((len(places), count), mx.float32, 1))
    ids = np.tile(np.arange(count) * 3 + 7, (len(places), 1)).astype(np.uint32)
    for also in (False, True):
        for row, place in enumerate(places):
            values[row, place] = 9 + row
            if also:
                values[row, place:] = 9 + row
        for order in (0, 2):
            with settings(order=order, seconds=SECONDS) as launches:
                assert best_of(mx.array(values), mx.array(ids)).tolist() == [p * 3 + 7 for p in places]
                assert best_of(mx.full((1, 9), -mx.inf), mx.array(ids[:1, :9])).tolist() == [7]
                broken = values.copy()
                broken[range(1, len(places)), places[1:]] = np.nan
                assert best_of(mx.array(broken), mx.array(ids)).tolist() == [7, *[2**32 - 1] * (len(places) - 1)]
            assert launches[0].buffers["values"].asked == values.nbytes


def prove_greedy() -> None:
    for rows, outputs, seed in ((3, 300, 1), (2, 65, 2), (1, 3, 4), (3, 128, 5)):
        w, x = weight((outputs, 320), AFFINE4, mx.float32, seed), random((rows, 320), mx.float32, 2, 0.1)
        norm = random((320,), mx.float32, 3)
        exact = wide(x) @ w.exact().T, normed(wide(x), wide(norm), EPS) @ w.exact().T
        for order in (0, 2):
            with settings(order=order, seconds=SECONDS) as launches:
                assert greedy(x, w).tolist() == exact[0].argmax(1).tolist()
                assert launches[0].buffers["w"].fetched == w.packed.nbytes
                assert launches[0].buffers["best"].size == rows * -(-outputs // 64) * 4
                assert greedy(Normed(x, norm, EPS), w).tolist() == exact[1].argmax(1).tolist()
    # a row of zeros, and one whose squares just fit: the norm adds eps and divides before anything overflows
    w, norm = weight((70, 320), AFFINE4, mx.float32, 6), random((320,), mx.float32, 7)
    large = random((1, 320), mx.float32, 8) * 3e17
    exact = normed(wide(large), wide(norm), EPS) @ w.exact().T
    with settings(order=2, seconds=SECONDS):
        assert greedy(Normed(mx.zeros((1, 320)), norm, EPS), w).tolist() == [0]
        assert greedy(Normed(large, norm, EPS), w).tolist() == exact.argmax(1).tolist()
    prove_best()
    # every output's turn to win, alone and beside an equal that comes later
    for best, also in ((0, 200), (5, 6), (70, 71), (63, 64), (129, 299), (299, 299)):
        codes = mx.zeros((300, 4), mx.uint32)
        codes[best], codes[also] = 0x11111111, 0x11111111
        w = type(w)(codes, mx.ones((300, 1)), mx.zeros((300, 1)), "affine", 4, 32)
        for sign in (1.0, -1.0):
            x = mx.full((2, 32), sign)
            with settings(order=2, seconds=SECONDS):
                found = greedy(x, w).tolist()
            assert found == [best if sign > 0 else 1 if best == 0 else 0] * 2
        bad = type(w)(codes, mx.where(mx.arange(300)[:, None] == best, mx.nan, w.scales), w.biases, "affine", 4, 32)
        with settings(order=2, seconds=SECONDS):
            assert greedy(mx.ones((2, 32)), bad).tolist() == [2**32 - 1] * 2
    w = type(w)(mx.full((300, 4), 0x11111111, mx.uint32), mx.ones((300, 1)), mx.ones((300, 1)), "affine", 4, 32)
    with settings(order=2, seconds=SECONDS):
        assert greedy(mx.full((1, 32), -mx.inf), w).tolist() == [0]


def prove_attention() -> None:
    sinks = mx.array([3.0, -1.0, 0.5, 4.0, 1.0, 2.0])
    for counts, bits, sight, tile in (
        ((6, 2, 80), 16, ScoreRule(0.11, softcap=3.0, sinks=sinks), AttentionTile(2, 4)),
        ((6, 2, 96), 16, ScoreRule(0.11, window=13), AttentionTile(2, 2, 3)),
        ((2, 1, 64), 16, ScoreRule(0.11, window=1), AttentionTile(2, 2)),
        ((3, 1, 64), 4, ScoreRule(0.125), AttentionTile(4, 3)),
        ((3, 1, 64), 8, ScoreRule(0.125, sinks=sinks[:3]), AttentionTile(2, 4, 40)),
    ):
        c = paged.case(counts, mx.float32, bits)
        _attended(c, sight, tile)
    for width in (65, 66):  # every row of all pages
        _attended(paged.case((2, 1, width), mx.float32, lengths=(16,)), ScoreRule(0.1), AttentionTile(2, 2))
    _attended(paged.case((3, 1, 96), mx.float32, latent=72, lengths=(1, 19)), ScoreRule(0.1), AttentionTile(2, 4))


def prove_join() -> None:
    """Scores so far apart that only the largest of them, wherever it stands, keeps all the exponentials finite."""
    rng = np.random.default_rng(5)
    rows, heads, blocks, width = 2, 3, 70, 40
    parts = rng.standard_normal((rows, heads, blocks, width)).astype(np.float32)
    best = np.array([300.0, 90.0, -100.0, 300.0, -250.0, 90.0]).reshape(rows, heads, 1)
    scores = best - rng.uniform(150, 400, (rows, heads, blocks))
    for head, place in enumerate((0, 31, 32, 65, 64, 69)):
        scores[head // heads, head % heads, place] = best[head // heads, head % heads, 0]
    sums = rng.uniform(0.5, 2, (rows, heads, blocks))
    scores[:, :, 5], sums[:, :, 5] = -np.inf, 0  # a block that saw no key
    marks = np.stack([scores, sums], -1).astype(np.float32)
    share = np.exp(marks[..., :1].astype(np.float64) - best[..., None]) * marks[..., 1:]
    exact = (share * parts).sum(2) / share.sum(2)
    own = {"T": mx.float32, "H": heads, "DV": width, "BLOCKS": blocks}
    shape = (rows, heads, width)
    for order in (0, 2):
        with settings(order=order, seconds=SECONDS):
            (y,) = launch.launch(
                JOIN,
                (mx.array(parts), mx.array(marks)),
                [(shape, mx.float32)],
                own,
                groups=(heads, rows, 1),
                threads=32,
            )
        _near(y, exact)


def _attended(c: paged.Case, sight: ScoreRule, tile: AttentionTile) -> None:
    exact = paged.exact(c, sight)
    for order in (0, 2):
        with settings(order=order, seconds=SECONDS):
            y = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, tile)
        assert np.isfinite(wide(y)).all()
        assert np.abs(wide(y) - exact).max() <= 3e-6 * np.abs(exact).max()


FINITE: dict[str, tuple[Callable[[], None], ...]] = {
    "qmv.metal": (prove_qmv,),
    "qmv_few.metal": (prove_qmv_few,),
    "qmm.metal": (prove_qmm, prove_qmm_experts),
    "experts_in.metal": (prove_experts_in,),
    "experts_out.metal": (prove_experts_out,),
    "router.metal": (prove_router,),
    "router_logits.metal": (prove_router_logits,),
    "weights.h": (prove_qmv, prove_project),
    "products.h": (prove_qmv, prove_project),
    "fragments.h": (prove_qmv_few, prove_qmm),
    "activations.h": (prove_experts_in,),
    "project.metal": (prove_project,),
    "heads.metal": (prove_heads,),
    "greedy.metal": (prove_greedy,),
    "best.metal": (prove_best,),
    "paged_attention.metal": (prove_attention,),
    "join_blocks.metal": (prove_join, prove_attention),
    "pages.h": (prove_attention,),
}
NOT_FINITE = proofs_not_finite.PROOFS
PROOFS = {file: FINITE.get(file, ()) + NOT_FINITE.get(file, ()) for file in {**FINITE, **NOT_FINITE}}
