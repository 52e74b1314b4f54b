"""The wide sweep: kernels on the shapes of many models, every format and type, several orders, watched.

    python -m tests.kernels.metal.sweep [--outputs N] [part ...]

N outputs of each matrix are computed (all of its K): rows do the same work, so a few hundred show it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import FewTile, MatrixTile, VectorTile

from .. import mslsim
from . import test_experts, test_paged_attention
from .made import BY16, FLOATS, FORMATS, ROUNDING, close, linted, normed, random, turned, weight, wide

EPS = 1e-5
# inner widths of SmolLM2, Qwen3 0.6B to 32B, Llama 3, Gemma 3, gpt-oss, Mixtral, DeepSeek
WIDTHS = (576, 1024, 1152, 1536, 2048, 2560, 2880, 3072, 4096, 5120, 5376, 7168, 9728, 14336)
# experts, those of a row, their width, the model's
MIXTURES = {
    "Qwen3 30B A3B": (128, 8, 768, 2048),
    "gpt-oss 20B": (32, 4, 2880, 2880),
    "Mixtral 8x7B": (8, 2, 14336, 4096),
    "DeepSeek V2 Lite": (64, 6, 1408, 2048),
    "GLM 4.5 Air": (128, 8, 1408, 4096),
}
ROUTERS = {
    "Qwen3 30B A3B": (128, Rule(8, renorm=True), False),
    "gpt-oss 120B": (128, Rule(4, "softmax_topk"), False),
    "DeepSeek V2": (160, Rule(6, scale=16.0, groups=8, top_groups=3), False),
    "DeepSeek V3": (256, Rule(8, "sigmoid", renorm=True, scale=2.5, groups=8, top_groups=4), True),
    "Kimi K2": (384, Rule(8, "sigmoid", renorm=True, scale=2.827), True),
    "Qwen3 Next": (512, Rule(10, renorm=True), False),
}
# heads of queries and keys, their width, values that turn, and what scores go through
HEADS = {
    "SmolLM2 135M": ((9, 3, 64), 64, ScoreRule(64**-0.5)),
    "Llama 3 8B": ((32, 8, 128), 128, ScoreRule(128**-0.5)),
    "Qwen3 0.6B": ((16, 8, 128), 128, ScoreRule(128**-0.5)),
    "Gemma 2 9B": ((16, 8, 256), 256, ScoreRule(256**-0.5, window=64, softcap=50.0)),
    "gpt-oss 20B": ((64, 8, 64), 64, ScoreRule(64**-0.5, window=128, sinks=mx.arange(64) / 16 - 2.0)),
    "Phi 3 mini": ((32, 32, 96), 96, ScoreRule(96**-0.5)),
    "GLM 4.5 Air": ((96, 8, 128), 64, ScoreRule(128**-0.5)),
}
LENGTHS = (1, 19, 300)


def products(outputs: int) -> Iterator[str]:
    for form, dtype in product((*FORMATS, *BY16), FLOATS):
        for width in (k for k in WIDTHS if k % form[2] == 0):
            _products(form, dtype, width, outputs)
            yield f"{form} {dtype} K = {width}"


def _products(form: tuple[str, int, int], dtype: mx.Dtype, width: int, outputs: int) -> None:
    w = weight((outputs, width), form, dtype)
    exact = w.exact()
    forms = [(qmv, m, tile, 2.0) for m in (1, 2, 3, 4) for tile in (VectorTile(), VectorTile(2, 4, True))]
    forms += [(qmv_few, m, tile, 3.0) for m in (5, 8, 16) for tile in (FewTile(), FewTile(4, 8, True))]
    rounded = wide(mx.array(exact.astype(np.float32)).astype(dtype))
    for order, (make, m, tile, slack) in enumerate(forms):
        x = random((m, width), dtype, m)
        with mslsim.settings(order=order):
            close(make(x, w, tile), wide(x) @ exact.T, np.abs(wide(x)) @ np.abs(exact.T), slack)
    x = random((40, width), dtype, 9)
    for tile in (MatrixTile(), MatrixTile(64, 32)):
        with mslsim.settings(order=1):
            close(qmm(x, w, tile), wide(x) @ rounded.T, np.abs(wide(x)) @ np.abs(rounded.T), 16)
    x, norm = random((2, width), dtype, 3), random((width,), dtype, 4) + 1
    rows = normed(wide(x), wide(norm), EPS)
    with mslsim.settings(order=2):
        found = project(Normed(x, norm, EPS), [w, w], dtype=mx.float32)
        close(found, np.tile(rows @ exact.T, 2), np.tile(np.abs(rows) @ np.abs(exact.T), 2), 3)
        assert greedy(x, w).tolist() == mx.argmax(qmv(x, w), axis=-1).tolist()


def mixtures(outputs: int) -> Iterator[str]:
    for (model, sizes), form, dtype in product(MIXTURES.items(), (*FORMATS, *BY16), FLOATS):
        if sizes[2] % form[2] == sizes[3] % form[2] == 0:
            _mixture(sizes, form, dtype, outputs)
            yield f"{model} {form} {dtype}"


def _mixture(sizes: tuple[int, int, int, int], form: tuple[str, int, int], dtype: mx.Dtype, outputs: int) -> None:
    count, chosen, inner, dim = sizes
    count = min(count, 16)  # as many as rows of a step can want
    ids = np.array(mx.argsort(random((3, count), mx.float32, 1), axis=-1)[:, :chosen])
    given, pairs, rows = mx.array(ids, mx.uint32), ids.ravel(), np.repeat(np.arange(3), chosen)
    gate, up = (test_experts.small(weight((count, outputs, dim), form, dtype, seed)) for seed in (1, 2))
    x = random((3, dim), dtype, 3, 0.1)
    sums = [np.einsum("pk,pnk->pn", wide(x)[rows], w.exact()[pairs]) for w in (gate, up)]
    with mslsim.settings(order=1):
        test_experts.near(experts_in(x, given, gate, up, "silu"), test_experts.gated("silu", *sums), 0.2)
    down, hidden = weight((count, outputs, inner), form, dtype, 4), random((3 * chosen, inner), dtype, 5)
    shares = mx.softmax(random((3, chosen), mx.float32, 6), axis=-1)
    each = np.einsum("pk,pnk->pn", wide(hidden), down.exact()[pairs])
    with mslsim.settings(order=2):
        found = experts_out(hidden, given, shares, down)
    test_experts.near(found, (each * wide(shares).reshape(-1, 1)).reshape(3, chosen, -1).sum(1), 0.2)
    order = np.argsort(pairs, kind="stable")
    with mslsim.settings(order=2):
        found = qmm_experts(hidden[mx.array(order)], down, mx.array(pairs[order], mx.uint32), MatrixTile(16, 32))
    rounded = wide(mx.array(down.exact().astype(np.float32)).astype(dtype))[pairs[order]]
    close(
        found,
        np.einsum("pk,pnk->pn", wide(hidden)[order], rounded),
        np.einsum("pk,pnk->pn", np.abs(wide(hidden)[order]), np.abs(rounded)),
        16,
    )


def routers(_: int) -> Iterator[str]:
    for (model, (count, rule, biased)), dtype in product(ROUTERS.items(), FLOATS):
        x, norm = random((4, 2048), dtype, 1), random((2048,), dtype, 2)
        router = random((count, 2048), mx.float32, 3, 0.02)
        exact = normed(wide(x), wide(norm), EPS) @ wide(router).T
        with mslsim.settings(order=1):
            logits = router_logits(Normed(x, norm, EPS), router)
        assert np.abs(wide(logits) - exact).max() <= 1e-5 * np.abs(exact).max()
        bias = random((count,), mx.float32, 4, 0.1) if biased else None
        ids, weights = test_experts.routed(wide(logits), rule, None if bias is None else wide(bias))
        with mslsim.settings(order=2):
            found, shares = route(logits, rule, bias)
        assert (np.array(found) == ids).all()
        assert np.abs(np.array(shares) - weights).max() < 1e-6 * max(1.0, rule.scale)
        yield f"{model} {dtype}"


def attention(_: int) -> Iterator[str]:
    for (model, (counts, turning, sight)), dtype in product(HEADS.items(), FLOATS):
        _heads(counts, turning, dtype)
        for bits in (16, 8, 4):
            c = test_paged_attention.case(counts, dtype, bits, lengths=LENGTHS)
            with mslsim.settings(order=bits):
                found = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight)
            test_paged_attention.near(found, test_paged_attention.exact(c, sight))
            yield f"{model} {bits} bits {dtype}"
    for dtype in FLOATS:  # DeepSeek's latent attention
        c = test_paged_attention.case((16, 1, 576), dtype, latent=512, lengths=LENGTHS)
        with mslsim.settings(order=1):
            found = paged_attention(c.q, c.k, c.v, c.tables, c.lengths, ScoreRule(192**-0.5))
        test_paged_attention.near(found, test_paged_attention.exact(c, ScoreRule(192**-0.5)))
        yield f"latent {dtype}"


def _heads(counts: tuple[int, int, int], turning: int, dtype: mx.Dtype) -> None:
    queries, keys, size = counts
    x, positions = random((2, (queries + 2 * keys) * size), dtype, 1), mx.array([0, 131], mx.int32)
    freqs = 10000.0 ** (np.arange(turning // 2) / (turning // 2))
    norm = HeadNorm(random((size,), dtype, 2) + 1, random((size,), dtype, 3) + 1, EPS)
    with mslsim.settings(order=2):
        made = heads(x, counts, positions, HeadTurn(mx.array(freqs, mx.float32)), norm)
    folded = wide(x).reshape(2, -1, size)
    parts = (folded[:, :queries], norm.q), (folded[:, queries : queries + keys], norm.k)
    for found, (part, w) in zip(made, parts, strict=True):
        exact = turned(normed(part, wide(w), EPS), np.array(positions), freqs, 1.0, False)
        assert np.abs(wide(found) - exact).max() <= (2 * ROUNDING[dtype] + 3e-5) * np.abs(exact).max()


PARTS: dict[str, Callable[[int], Iterator[str]]] = {
    part.__name__: part for part in (routers, attention, mixtures, products)
}


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    options.add_argument("--outputs", type=int, default=67)
    chosen = options.parse_args(arguments)
    count = 0
    with launch.made_by(linted):
        for part in chosen.parts:
            for case in PARTS[part](chosen.outputs):
                print(f"{part}: {case}: right", flush=True)
                count += 1
    print(f"{count} cases, each against float64")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
