"""Every argument that a launcher refuses, by name; what is refused is never launched, and what just fits is taken."""

# ruff: noqa: E501 a table reads by its rows
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import check
from mlxrun.metal_kernels.attention import Pages, ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, gate_up, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few

from .made import weight
from .recorded import recorded

F16, F32, U32, I32 = mx.float16, mx.float32, mx.uint32, mx.int32


def ones(*shape: int, dtype: mx.Dtype = F16) -> mx.array:
    return mx.ones(shape, dtype)


X, W = ones(2, 64), weight((8, 64), ("affine", 4, 32), F16)
STACK, DOWN = weight((3, 9, 64), ("affine", 4, 32), F16), weight((3, 9, 32), ("affine", 4, 32), F16)
IDS, NORM = mx.zeros((2, 2), U32), ones(64)
ROWS = Normed(X, NORM, 1e-5)
Q, K, V = ones(2, 4, 64), Pages(ones(3, 2, 4, 64)), Pages(ones(3, 2, 4, 64))
CODED = Pages(mx.zeros((3, 2, 4, 16), U32), ones(3, 2, 4, 2), ones(3, 2, 4, 2), 8, 32)
SIGHT = ScoreRule(0.5)
TABLES, LENGTHS = mx.zeros((2, 3), U32), mx.array([5, 9], I32)


def attended(q: mx.array = Q, k: Pages = K, v: Pages | int = V, sight: ScoreRule = SIGHT, **how: mx.array) -> object:
    return paged_attention(q, k, v, how.get("tables", TABLES), how.get("lengths", LENGTHS), sight)


def routed(rule: Rule, logits: mx.array | None = None, bias: mx.array | None = None) -> object:
    return route(mx.zeros((2, 8)) if logits is None else logits, rule, bias)


def turned(count: tuple[int, int, int] = (2, 1, 16), **how: Any) -> object:
    x, positions = how.get("x", ones(2, 48)), how.get("positions", mx.zeros(2, I32))
    return heads(x, count, positions, how.get("turn"), how.get("norm"))


def down(hidden: mx.array | None = None, shares: mx.array | None = None, **how: Any) -> object:
    hidden, shares = (ones(4, 32) if hidden is None else hidden), (mx.ones((2, 2)) if shares is None else shares)
    return experts_out(hidden, how.get("ids", IDS), shares, DOWN, how.get("added"), how.get("residual"))


def weight96() -> Any:
    return replace(weight((8, 96), ("affine", 4, 32), F16), group=64)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    # weights
    "a format without a kernel": (lambda: qmv(X, replace(W, bits=5)), "No kernel for mode affine with 5 bits"),
    "a stack for one matrix": (lambda: qmv(X, STACK), "w has 3 axes; the kernel takes 2"),
    "a matrix for a stack": (lambda: qmm_experts(X, W, IDS[0]), "w has 2 axes; the kernel takes 3"),
    "codes of another type": (lambda: qmv(X, replace(W, packed=W.packed.view(I32))), "packed weights are uint32"),
    "too few words": (lambda: qmv(ones(1, 32), weight((1, 32), ("affine", 4, 32), F16)), "w has 4 words"),
    "part of a group": (lambda: qmv(ones(1, 96), weight96()), "K = 96 is not a multiple of the group of 64"),
    "scales of another shape": (lambda: qmv(X, replace(W, scales=W.scales[:, :1])), "scales have shape .8, 1.; w needs .8, 2."),
    "no biases": (lambda: qmv(X, replace(W, biases=None)), "biases of shape .8, 2. are needed"),
    "biases of another shape": (lambda: qmv(X, replace(W, biases=W.scales[:1])), "biases of shape .8, 2. are needed"),
    "scales of another type": (lambda: qmv(X.astype(F32), W), "scales are .*float16, x is .*float32"),
    "biases of another type": (lambda: qmv(X, replace(W, biases=W.scales.astype(F32))), "biases must be .*float16, as x is"),
    "scales that are no bytes": (lambda: qmv(X, replace(W, mode="mxfp4")), "those of mxfp4 are uint8"),
    # products
    "whole numbers": (lambda: qmv(ones(2, 64, dtype=I32), W), "x is mlx.core.int32; the kernel takes"),
    "another width": (lambda: qmv(X[:, :32], W), "x has shape .2, 32.; w needs .M, 64."),
    "more axes": (lambda: qmv(X[None], W), "x has shape .1, 2, 64."),
    "no rows": (lambda: qmv(X[:0], W), "x has no rows"),
    "five rows": (lambda: qmv(ones(5, 64), W), "x has 5 rows; the kernel takes 1 to 4"),
    "17 rows": (lambda: qmv_few(ones(17, 64), W), "x has 17 rows; the kernel takes 1 to 16"),
    "half a block, few": (lambda: qmv_few(ones(5, 48), weight((8, 48), ("nvfp4", 4, 16), F16)), "K = 48"),
    "half a block, many": (lambda: qmm(ones(5, 48), weight((8, 48), ("nvfp4", 4, 16), F16)), "K = 48"),
    "half a block, experts": (
        lambda: qmm_experts(ones(5, 48), weight((3, 8, 48), ("nvfp4", 4, 16), F16), mx.zeros(5, U32)), "K = 48"),
    "ids of another type": (lambda: qmm_experts(X, STACK, mx.zeros(2, I32)), "ids must be uint32 of shape .2,."),
    "ids of another length": (lambda: qmm_experts(X, STACK, mx.zeros(3, U32)), "ids must be uint32 of shape .2,."),
    "a residual of another shape": (lambda: qmv(X, W, residual=ones(2, 7)), "residual has shape .2, 7.; it must be .2, 8."),
    "a residual of another type": (lambda: qmv(X, W, residual=ones(2, 8, dtype=F32)), "residual is .*float32"),
    # norms
    "a norm of another type": (lambda: greedy(Normed(X, NORM.astype(mx.bfloat16), 1e-5), W), "norm's weight is .*bfloat16"),
    "a norm of another width": (lambda: greedy(Normed(X, ones(63), 1e-5), W), "norm's weight has shape .63,."),
    "a norm of more axes": (lambda: greedy(Normed(X, ones(64, 1), 1e-5), W), "norm's weight has shape .64, 1."),
    "a single row to norm": (lambda: greedy(Normed(X[0], NORM, 1e-5), W), "x has 1 axes"),
    "rows of whole numbers": (lambda: greedy(X.astype(I32), W), "x is mlx.core.int32; the kernel takes"),
    "rows of three axes": (lambda: greedy(X[None], W), "x has 3 axes"),
    "five rows to project": (lambda: project(Normed(ones(5, 64), NORM, 1e-5), [W]), "x has 5 rows"),
    "no rows for the best token": (lambda: greedy(X[:0], W), "x has 0 rows"),
    "no matrices": (lambda: project(ROWS, []), "0 matrices; the kernel takes 1 to 3"),
    "four matrices": (lambda: project(ROWS, [W] * 4), "4 matrices"),
    "matrices unlike each other": (
        lambda: project(ROWS, [W, weight((8, 64), ("mxfp4", 4, 32), F16)]), "quantized alike"),
    "a bias of another length": (lambda: project(ROWS, [W, W], ones(15)), r"added must have shape \(16,\)"),
    "a head of another width": (lambda: greedy(ones(1, 32), W), "x has shape .1, 32.; w needs .M, 64."),
    "too few groups": (lambda: greedy(ones(1, 32), weight((7, 32), ("affine", 4, 32), F16)), "w has 7 groups"),
    "whole numbers as heads": (lambda: turned(x=ones(2, 48, dtype=I32)), "x is mlx.core.int32; the kernel takes"),
    "fewer values than heads": (lambda: turned(x=ones(2, 47)), "x has shape .2, 47.; heads are .2, 1, 16."),
    "heads of three axes": (lambda: turned(x=ones(1, 2, 48)), "x has shape .1, 2, 48."),
    "positions of another type": (lambda: turned(positions=mx.zeros(2, U32)), "positions are mlx.core.uint32"),
    "positions of another length": (lambda: turned(positions=mx.zeros(3, I32)), "positions have shape .3,."),
    "more pairs than a head has": (lambda: turned(turn=HeadTurn(mx.ones(9))), "9 pairs are turned; a head has 16"),
    "tiny heads": (lambda: turned((2, 1, 7)), "A head has 7 values; the kernel takes 8"),
    "a norm of queries": (lambda: turned(norm=HeadNorm(ones(15), ones(16), 1.0)), "the norm of q has shape .15,."),
    "a norm of keys": (lambda: turned(norm=HeadNorm(ones(16), ones(15), 1.0)), "the norm of k has shape .15,."),
    "norms of two types": (lambda: turned(norm=HeadNorm(ones(16), ones(16, dtype=F32), 1.0)), "must have one type"),
    # routers and experts
    "logits of another type": (lambda: routed(Rule(2), ones(2, 8)), "logits must be .T, E. float32"),
    "logits of one axis": (lambda: routed(Rule(2), mx.zeros(8)), "logits must be .T, E. float32"),
    "an unknown score": (lambda: routed(Rule(2, "sparsemixer")), "scores by sparsemixer"),
    "1025 experts": (lambda: routed(Rule(2), mx.zeros((1, 1025))), "1025 experts; the kernel takes at most 1024"),
    "no choice": (lambda: routed(Rule(0)), "top_k = 0"),
    "more choices than experts": (lambda: routed(Rule(9)), "top_k = 9"),
    "33 choices": (lambda: routed(Rule(33), mx.zeros((1, 64))), "top_k = 33"),
    "groups that do not divide": (lambda: routed(Rule(2, groups=3)), "3 groups of 8 experts"),
    "33 groups": (lambda: routed(Rule(2, groups=33), mx.zeros((1, 66))), "33 groups of 66 experts"),
    "no group": (lambda: routed(Rule(2, groups=4, top_groups=0)), "top_groups = 0 of 4"),
    "more groups than there are": (lambda: routed(Rule(2, groups=4, top_groups=5)), "top_groups = 5 of 4"),
    "a select bias of another length": (lambda: routed(Rule(2), bias=mx.zeros(7)), "select_bias has shape .7,."),
    "a select bias of another type": (lambda: routed(Rule(2), bias=ones(8)), "select_bias is .*float16"),
    "router rows of whole numbers": (
        lambda: router_logits(Normed(ones(2, 64, dtype=I32), mx.ones(64), 1.0), mx.ones((8, 64))), "x is mlx.core.int32; the kernel takes"),
    "a router of whole numbers": (lambda: router_logits(ROWS, ones(8, 64, dtype=I32)), "router is mlx.core.int32"),
    "five router rows": (lambda: router_logits(Normed(ones(5, 64), NORM, 1.0), ones(8, 64)), "x has 5 rows"),
    "no router rows": (lambda: router_logits(Normed(X[:0], NORM, 1.0), ones(8, 64)), "x has 0 rows"),
    "a router of another width": (lambda: router_logits(ROWS, ones(8, 63)), "router has shape .8, 63."),
    "a router of three axes": (lambda: router_logits(ROWS, ones(1, 64, 8)), "router has shape .1, 64, 8."),
    "a router's bias": (lambda: router_logits(ROWS, ones(8, 64), ones(7)), r"added must have shape \(8,\)"),
    "an activation without a kernel": (lambda: experts_in(X, IDS, STACK, STACK, "relu2"), "activation relu2"),
    "experts of whole numbers": (lambda: experts_in(X.astype(I32), IDS, STACK, STACK, "silu"), "x is mlx.core.int32; the kernel takes"),
    "gate and up of two shapes": (lambda: experts_in(X, IDS, STACK, weight((3, 8, 64), ("affine", 4, 32), F16), "silu"),
        "gate and up must have the same shape"),
    "gate and up unlike each other": (lambda: experts_in(X, IDS, STACK, weight((3, 9, 64), ("mxfp4", 4, 32), F16), "silu"),
        "gate and up must be quantized alike"),
    "rows of another width": (lambda: experts_in(X[:, :32], IDS, STACK, STACK, "silu"), "x has shape .2, 32."),
    "expert rows of three axes": (lambda: experts_in(X[None], IDS[:1], STACK, STACK, "silu"), "x has shape .1, 2, 64."),
    "expert ids of another type": (lambda: experts_in(X, IDS.view(I32), STACK, STACK, "silu"), "ids must be .T, k. uint32"),
    "expert ids of one axis": (lambda: experts_in(X, IDS[0], STACK, STACK, "silu"), "ids must be .T, k. uint32"),
    "expert ids of other rows": (lambda: experts_in(X, IDS[:1], STACK, STACK, "silu"), "ids has 1 rows, x has 2"),
    "257 pairs": (
        lambda: experts_in(ones(257, 64), mx.zeros((257, 1), U32), STACK, STACK, "silu"), "257 pairs .* at most 256"),
    "one bias for two matrices": (lambda: experts_in(X, IDS, STACK, STACK, "silu", [ones(3, 9)]), "1 biases; 2 or none"),
    "expert biases of another shape": (
        lambda: experts_in(X, IDS, STACK, STACK, "silu", [ones(3, 9), ones(3, 8)]), "A bias has shape .3, 8."),
    "five rows of a dense layer": (lambda: gate_up(ones(5, 64), W, W, "silu"), "x has 5 rows; the kernel takes 1 to 4"),
    "hidden whole numbers": (lambda: down(ones(4, 32, dtype=I32)), "hidden is mlx.core.int32"),
    "hidden rows": (lambda: down(ones(3, 32)), "hidden has shape .3, 32."),
    "hidden width": (lambda: down(ones(4, 31)), "hidden has shape .4, 31."),
    "shares of another type": (lambda: down(shares=ones(2, 2)), "weights must be float32, shaped as ids"),
    "shares of another shape": (lambda: down(shares=mx.ones((2, 1))), "weights must be float32, shaped as ids"),
    "ids of down": (lambda: down(ids=IDS.view(I32)), "ids must be .T, k. uint32"),
    "a bias of down": (lambda: down(added=ones(3, 8)), "A bias has shape .3, 8.; it must be .3, 9."),
    "a residual of down": (lambda: down(residual=ones(2, 8)), "residual has shape .2, 8.; it must be .2, 9."),
    # attention
    "queries of whole numbers": (lambda: attended(ones(2, 4, 64, dtype=I32)), "q is mlx.core.int32"),
    "queries of four axes": (lambda: attended(ones(1, 2, 4, 64)), "q has 4 axes"),
    "heads of 7 values": (lambda: attended(ones(2, 4, 7), Pages(ones(3, 2, 4, 7)), 7), "A head has 7 values"),
    "heads of 1025 values": (lambda: attended(ones(2, 4, 1025), Pages(ones(3, 2, 4, 1025)), 7), "A head has 1025 values"),
    "pages of three axes": (lambda: attended(k=Pages(ones(3, 2, 64))), "k has 3 axes; pages have 4"),
    "too small pages": (lambda: attended(v=Pages(ones(1, 1, 1, 7))), "v has 7 numbers"),
    "pages of another type": (lambda: attended(v=Pages(ones(3, 2, 4, 64, dtype=F32))), "v is .*float32, q is"),
    "codes of 2 bits": (lambda: attended(k=replace(CODED, bits=2), v=CODED), "k has 2 bits; the kernel takes 4 or 8"),
    "codes that are no words": (
        lambda: attended(k=replace(CODED, rows=CODED.rows.view(I32)), v=CODED), "k is mlx.core.int32; codes are uint32"),
    "half a group": (lambda: attended(k=replace(CODED, group=48), v=CODED), "k has 64 values, not a multiple of the group of 48"),
    "scales of pages": (lambda: attended(k=replace(CODED, scales=ones(3, 2, 4, 1)), v=CODED), "k's scales have shape .3, 2, 4, 1."),
    "biases of pages": (lambda: attended(k=CODED, v=replace(CODED, biases=ones(3, 2, 4, 3))), "v's scales have shape .3, 2, 4, 3."),
    "scales of pages of another type": (
        lambda: attended(k=replace(CODED, scales=ones(3, 2, 4, 2, dtype=F32)), v=CODED), "k's scales are .*float32"),
    "keys of another size": (lambda: attended(k=Pages(ones(3, 2, 4, 32))), "k has heads of 32 values, q of 64"),
    "heads that do not divide": (lambda: attended(ones(2, 3, 64)), "3 query heads cannot share 2 key heads"),
    "no values of a key": (lambda: attended(v=0), "The values are 0 of a key's 64 values"),
    "more values than a key has": (lambda: attended(v=65), "The values are 65 of a key's 64 values"),
    "other pages of values": (lambda: attended(v=Pages(ones(3, 2, 5, 64))), "v has pages .3, 2, 5., k has .3, 2, 4."),
    "plain keys, coded values": (lambda: attended(v=CODED), "quantized alike"),
    "keys and values of two bits": (
        lambda: attended(k=CODED, v=Pages(mx.zeros((3, 2, 4, 8), U32), CODED.scales, CODED.biases, 4, 32)), "quantized alike"),
    "tables of one axis": (lambda: attended(tables=TABLES[0]), "tables have shape"),
    "tables of other rows": (lambda: attended(tables=TABLES[:1]), "tables have shape .1, 3.; q has 2 rows"),
    "tables of another type": (lambda: attended(tables=TABLES.view(I32)), "tables are mlx.core.int32"),
    "lengths of other rows": (lambda: attended(lengths=LENGTHS[:1]), "lengths have shape .1,.; q has 2 rows"),
    "lengths of another type": (lambda: attended(lengths=LENGTHS.view(U32)), "lengths are mlx.core.uint32"),
    "sinks of other heads": (lambda: attended(sight=ScoreRule(0.5, sinks=ones(3))), r"sinks have shape \(3,\); q has 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_it_is_named_and_nothing_is_launched(case: str) -> None:
    call, message = BAD[case]

    def refused() -> None:
        with pytest.raises(ValueError, match=message):
            call()

    assert recorded(refused) == []


FITS: dict[str, Callable[[], object]] = {
    "8 words": lambda: qmv(ones(1, 32), weight((2, 32), ("affine", 4, 32), F16)),
    "8 groups": lambda: greedy(ones(1, 32), weight((8, 32), ("affine", 4, 32), F16)),
    "4 rows": lambda: qmv(ones(4, 64), W),
    "16 rows": lambda: qmv_few(ones(16, 64), W),
    "a norm of float32": lambda: greedy(Normed(X, NORM.astype(F32), 1e-5), W),
    "3 matrices": lambda: project(ROWS, [W] * 3, ones(24)),
    "all pairs of a head": lambda: turned(turn=HeadTurn(mx.ones(8))),
    "heads of 8 values": lambda: turned((2, 1, 8)),
    "more values than heads": lambda: turned(x=ones(2, 60)),
    "1024 experts, 32 choices, 32 groups": lambda: routed(
        Rule(32, groups=32, top_groups=32), mx.zeros((1, 1024)), mx.zeros(1024)
    ),
    "as many choices as experts": lambda: routed(Rule(8, top_groups=1)),
    "4 router rows": lambda: router_logits(Normed(ones(4, 64), NORM, 1.0), ones(8, 64), ones(8)),
    "256 pairs": lambda: experts_in(ones(256, 64), mx.zeros((256, 1), U32), STACK, STACK, "silu"),
    "4 rows of a dense layer": lambda: gate_up(ones(4, 64), W, W, "silu"),
    "pages of 8 numbers": lambda: attended(ones(2, 4, 8), Pages(ones(1, 1, 1, 8)), Pages(ones(1, 1, 1, 8))),
    "heads of 1024 values": lambda: attended(ones(2, 4, 1024), Pages(ones(3, 2, 4, 1024)), 1024),
    "one value of a key": lambda: attended(v=1),
    "codes of 4 bits": lambda: attended(
        *[Q, *[Pages(mx.zeros((3, 2, 4, 8), U32), ones(3, 2, 4, 1), ones(3, 2, 4, 1), 4)] * 2]
    ),
    "down": down,
}


@pytest.mark.parametrize("case", FITS)
def test_what_just_fits_is_taken(case: str) -> None:
    assert recorded(FITS[case])


@pytest.mark.parametrize("kind", sorted(check.SERVED))
def test_formats(kind: tuple[str, int, int]) -> None:
    """All that have a kernel, and none that differs from one of them in a number."""
    mode, bits, group = kind
    w = weight((8, 128), kind, F16)
    assert check.weight(w, F16) == (8, 128)
    assert check.serves(w, F16)
    assert check.serves(weight((2, 8, 128), kind, F16), F16)
    assert check.serves(w, F32) == (mode != "affine")
    for other in ((mode, bits + 1, group), (mode, bits, group + 1), ("", bits, group)):
        assert not check.serves(replace(w, mode=other[0], bits=other[1], group=other[2]), F16)


def test_the_formats_are_those_that_the_kernels_were_written_for() -> None:
    affine = {("affine", bits, 16) for bits in (2, 3, 6)} | {("affine", b, g) for b in (4, 8) for g in (32, 64, 128)}
    assert affine | {("mxfp4", 4, 32), ("nvfp4", 4, 16)} == check.SERVED
    assert check.FORMATS == {"affine": 0, "mxfp4": 1, "nvfp4": 2}
    assert not check.serves(weight((7, 32), ("affine", 4, 32), F16), F16)  # 7 scales
    assert check.serves(weight((8, 32), ("affine", 4, 32), F16), F16)
