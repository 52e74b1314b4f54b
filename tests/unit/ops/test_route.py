"""Routing against the definition, one row at a time in NumPy float64; and by hand where the traps are."""

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.route import route
from mlxrun.spec import Router

EXPERTS = 12


def oracle(logits, s, bias):
    """One row: (ids, weights)."""
    scores = {
        "softmax": lambda z: np.exp(z - z.max()) / np.exp(z - z.max()).sum(),
        "softmax_topk": lambda z: z,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }[s.score](logits)
    choice = scores + (0 if bias is None else bias)
    size = EXPERTS // s.groups
    strength = [np.sort(choice[g * size : (g + 1) * size])[-2:].sum() for g in range(s.groups)]
    open_groups = sorted(range(s.groups), key=lambda g: -strength[g])[: s.top_groups]
    allowed = [e for e in range(EXPERTS) if e // size in open_groups] if s.groups > 1 else range(EXPERTS)
    ids = sorted(allowed, key=lambda e: -choice[e])[: s.top_k]
    weights = scores[ids]
    if s.score == "softmax_topk":
        weights = np.exp(weights - weights.max()) / np.exp(weights - weights.max()).sum()
    if s.renorm:
        weights = weights / (weights.sum() + 1e-20)
    return ids, weights * s.scale


@pytest.mark.parametrize("score", ["softmax", "softmax_topk", "sigmoid"])
@pytest.mark.parametrize("renorm", [False, True])
@pytest.mark.parametrize("groups", [(1, 1), (3, 2), (4, 1)])
@pytest.mark.parametrize("shift", [None, 0.7, -3.0])
def test_against_the_definition(score, renorm, groups, shift):
    rng = np.random.default_rng(4)
    s = Router(3, score, renorm, 2.5, False, shift is not None, *groups)
    logits = rng.standard_normal((20, EXPERTS)).astype(np.float32)
    bias = None if shift is None else (rng.standard_normal(EXPERTS) + shift).astype(np.float32)
    ids, weights = route(mx.array(logits), s, None if bias is None else mx.array(bias))
    assert ids.shape == weights.shape == (20, 3)
    assert weights.dtype == mx.float32
    for row in range(20):
        want_ids, want = oracle(logits[row].astype(np.float64), s, bias)
        assert np.array(ids)[row].tolist() == want_ids
        np.testing.assert_allclose(np.array(weights)[row], want, rtol=2e-5)


def test_a_closed_group_never_wins_against_negative_scores():
    """With zeros in place of -inf, closed experts would beat the open ones, all of them below zero."""
    bias = mx.array([-2.0, -2.0, -3.0, -3.0])
    ids, _ = route(mx.zeros((1, 4)), Router(2, "sigmoid", select_bias=True, groups=2), bias)
    assert sorted(ids[0].tolist()) == [0, 1]


def test_the_bias_chooses_and_does_not_weigh():
    logits = mx.array([[0.0, 0.0, 2.0]])
    ids, weights = route(logits, Router(1, "sigmoid", select_bias=True), mx.array([5.0, 0.0, 0.0]))
    assert ids.tolist() == [[0]]
    assert weights.tolist() == [[0.5]]


@pytest.mark.parametrize("score", ["softmax", "softmax_topk", "sigmoid", "sparsemixer"])
def test_ties_go_to_the_lower_expert(score):
    logits = mx.array([[1.0, 3.0, 3.0, 3.0, 1.0, 3.0]] * 3)
    ids, weights = route(logits, Router(3, score, jitter=0.01))
    assert ids.tolist() == [[1, 2, 3]] * 3
    assert np.ptp(np.array(weights[:, :2])) < 1e-6 or score == "sparsemixer"


def test_equal_groups_go_to_the_lower_group():
    ids, _ = route(mx.zeros((1, 8)), Router(2, "softmax", groups=4, top_groups=1))
    assert ids.tolist() == [[0, 1]]


def test_sparsemixer_by_hand():
    """Threshold 2 * 0.1 of the best: 3 is near 3.5 ((3.5 - 3) / 3.5 = 0.14), 2 is not; without 3.5, 2 is far from 3."""
    ids, weights = route(mx.array([[2.0, 3.5, 3.0, -4.0]]), Router(2, "sparsemixer", jitter=0.1))
    assert ids.tolist() == [[1, 2]]
    np.testing.assert_allclose(np.array(weights)[0], [1 / (1 + np.exp(-0.5)), 1.0], rtol=1e-6)


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_sparsemixer_against_the_definition(shift):
    """Nearness is measured against the larger of the best score and a score's own size, the chosen ones included."""
    logits = np.random.default_rng(9).standard_normal((30, EXPERTS)).astype(np.float32) + np.float32(shift)
    ids, weights = route(mx.array(logits), Router(2, "sparsemixer", jitter=0.3))
    for row, z in enumerate(logits.astype(np.float64)):
        left = z.copy()
        for choice in range(2):
            best = left.max()
            near = [e for e in range(EXPERTS) if (best - z[e]) / max(abs(z[e]), best) <= 0.6]
            assert ids[row, choice].item() == left.argmax()
            np.testing.assert_allclose(weights[row, choice].item(), 1 / np.exp(left[near] - best).sum(), rtol=2e-5)
            left[left.argmax()] = -np.inf


def test_half_precision_logits_are_scored_in_float32():
    logits = mx.array([[1.0, 2.0, 3.0, 0.5]], mx.bfloat16)
    _, weights = route(logits, Router(2, "softmax", renorm=True))
    np.testing.assert_allclose(np.array(weights)[0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-6)
