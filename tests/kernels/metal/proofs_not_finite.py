"""What is not a number, or infinite, in scores, logits and activations: it reaches whoever has it, and nobody else.

Every launch runs under both rules of what the larger of a number and NaN is, wherever one was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
from mlxrun.metal_kernels.attention import ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, route
from mlxrun.metal_kernels.tiles import AttentionTile

from ..mslsim import settings
from . import test_paged_attention as paged
from .made import random, weight, wide

SECONDS = 10
AFFINE = ("affine", 4, 32)
RULES = (
    Rule(3, "softmax"),
    Rule(3, "softmax_topk"),
    Rule(3, "sigmoid", renorm=True),
    Rule(4, "sigmoid", groups=8, top_groups=4),
    Rule(4, "softmax_topk", groups=8, top_groups=4),
)
BROKEN = ((7, mx.nan), (39, mx.nan), (0, mx.nan), (slice(None), mx.nan), (7, mx.inf), (slice(5, 40), -mx.inf))


def prove_router() -> None:
    """Row 1 of three is broken: its ids are experts, each once; NaN stands in its weights where it stood in a score."""
    logits = random((3, 40), mx.float32, 1, 2.0)
    for rule in RULES:
        ids, weights = route(logits, rule)
        for place, value in BROKEN:
            broken = mx.array(logits)
            broken[1, place] = value
            with settings(seconds=SECONDS):
                found, shares = (np.array(a) for a in route(broken, rule))
            assert (found < 40).all()
            assert all(len(set(row)) == rule.top_k for row in found.tolist())
            for row in (0, 2):
                assert (found[row] == np.array(ids[row])).all()
                assert (shares[row] == np.array(weights[row])).all()
            lost = np.isnan(value) or (value > 0 and rule.score != "sigmoid")
            assert np.isnan(shares[1]).any() == lost
            if lost and (rule.score != "sigmoid" or rule.renorm):
                assert np.isnan(shares[1]).all()


def prove_few_logits() -> None:
    """Fewer than eight lie in constant memory."""
    for rows, experts in ((1, 4), (1, 7), (2, 3), (1, 1)):
        logits = random((rows, experts), mx.float32, experts)
        with settings(seconds=SECONDS):
            ids, _ = route(logits, Rule(min(2, experts)))
        assert (np.array(ids) == np.argsort(-wide(logits), axis=1)[:, : min(2, experts)]).all()


def prove_experts() -> None:
    """The broken row's outputs are NaN; the other rows have the bits that they would have had."""
    gate, up, down = (weight(shape, AFFINE, mx.float32, 3) for shape in ((6, 9, 32), (6, 9, 32), (6, 11, 32)))
    x, hidden = random((3, 32), mx.float32, 4), random((6, 32), mx.float32, 5)
    logits = random((3, 6), mx.float32, 6)
    broken = mx.array(logits)
    broken[1, 2] = mx.nan
    with settings(seconds=SECONDS):
        whole, odd = (
            experts_out(hidden, ids, shares, down) for ids, shares in (route(one, Rule(2)) for one in (logits, broken))
        )
        assert np.isnan(wide(odd)[1]).all()
        assert (wide(odd)[[0, 2]] == wide(whole)[[0, 2]]).all()
        assert np.isfinite(wide(experts_in(x, route(broken, Rule(2))[0], gate, up, "silu"))).all()


def prove_activations() -> None:
    """A gate or an up that is not a number stays none in every activation, and an infinite one follows the formula."""
    w = weight((1, 8, 32), AFFINE, mx.float32)
    ids = mx.zeros((1, 1), mx.uint32)
    for act in ("clamped_swiglu", "relu", "silu", "gelu", "gelu_tanh"):
        for gate, up in ((mx.nan, 1.0), (1.0, mx.nan), (mx.nan, mx.nan)):
            added = [mx.full((1, 8), value) for value in (gate, up)]
            with settings(seconds=SECONDS):
                assert np.isnan(wide(experts_in(random((1, 32), mx.float32, 2, 0.1), ids, w, w, act, added))).all(), act
    added = [mx.full((1, 8), mx.inf), mx.full((1, 8), -mx.inf)]
    with settings(seconds=SECONDS):
        largest = wide(experts_in(random((1, 32), mx.float32, 2, 0.1), ids, w, w, "clamped_swiglu", added))
    assert np.allclose(largest, 7 / (1 + np.exp(-1.702 * 7)) * -6)


def prove_attention() -> None:
    """One key of the second row holds something odd; that row alone has it."""
    for latent, tile in ((0, AttentionTile(2, 4)), (0, AttentionTile(2, 2, 3)), (72, AttentionTile(2, 4))):
        groups = 1 if latent else 2
        c = paged.case((4, groups, 96), mx.float32, latent=latent)
        c = replace(c, q=mx.abs(c.q))
        sight = ScoreRule(0.1, sinks=mx.array([0.5, 1.0, -1.0, 2.0]))
        with settings(seconds=SECONDS):
            plain = wide(paged_attention(c.q, c.k, c.v, c.tables, c.lengths, sight, tile))
        page, place = c.tables[1, 1].item(), 3
        for value in (mx.inf, mx.nan, -mx.inf):
            rows = mx.array(c.k.rows)
            rows[page, 0, place, 90:] = value  # past the values of a latent row
            with settings(seconds=SECONDS):
                y = wide(paged_attention(c.q, replace(c.k, rows=rows), c.v, c.tables, c.lengths, sight, tile))
            sees = slice(0, 4 // groups)  # heads of the key's group
            if value == -mx.inf:  # a weight of zero, as if the key were not there
                keys = c.keys.copy()
                keys[page, 0, place] = -1e4
                expected = paged.exact(replace(c, keys=keys), sight)
                assert np.abs(y - expected).max() <= 3e-6 * np.abs(expected).max()
            else:
                assert np.isnan(y[1, sees]).all()
            assert (y[[0, 2]] == plain[[0, 2]]).all()
            assert (y[1, sees.stop :] == plain[1, sees.stop :]).all()


def prove_first_key() -> None:
    """A row's first key, or its only one, has a score of minus infinity."""
    c = paged.case((2, 1, 64), mx.float32, lengths=(9,))
    c, page = replace(c, q=mx.abs(c.q)), c.tables[0, 0].item()
    rows, keys = mx.array(c.k.rows), c.keys.copy()
    rows[page, 0, 0, 1], keys[page, 0, 0] = -mx.inf, -1e4
    expected = paged.exact(replace(c, keys=keys), ScoreRule(0.1))
    for tile in (AttentionTile(2, 1), AttentionTile(2, 4), AttentionTile(2, 4, 5)):
        with settings(seconds=SECONDS):
            y = wide(paged_attention(c.q, replace(c.k, rows=rows), c.v, c.tables, c.lengths, ScoreRule(0.1), tile))
        assert np.abs(y - expected).max() <= 3e-6 * np.abs(expected).max()


PROOFS: dict[str, tuple[Callable[[], None], ...]] = {
    "router.metal": (prove_few_logits, prove_router, prove_experts),
    "router.h": (prove_router,),
    "activations.h": (prove_activations,),
    "paged_attention.metal": (prove_attention, prove_first_key),
    "join_blocks.metal": (prove_attention,),
}
