"""Attention inside segments, in plain MLX and in the native form, against softmax written out in NumPy float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.device import this_device
from mlxrun.ops.packed import PackedRule, Segments, by_distance, packed_attention

HEADS, GROUPS, DIM = 6, 2, 16
DEVICES = pytest.mark.parametrize("device", [this_device(), this_device(native=False)], ids=["native", "plain"])


def rows(counts: list[int]) -> list[Any]:
    random = np.random.default_rng(sum(counts))
    return [random.standard_normal((sum(counts), heads, DIM)) for heads in (HEADS, GROUPS, GROUPS)]


def oracle(drawn: list[Any], counts: list[int], rule: PackedRule, apart: Any = None) -> Any:
    found, start = [], 0
    for count in counts:
        q, k, v = (x[start : start + count].swapaxes(0, 1) for x in drawn)
        k, v = (np.repeat(x, HEADS // GROUPS, axis=0) for x in (k, v))
        scores = q @ k.swapaxes(1, 2) * rule.scale
        if rule.softcap:
            scores = rule.softcap * np.tanh(scores / rule.softcap)
        ahead = np.arange(count)[None] - np.arange(count)[:, None]
        if apart is not None:
            far = apart.shape[1] // 2
            scores = scores + apart[:, np.clip(ahead, -far, far) + far]
        if rule.window is not None:
            scores = np.where(abs(ahead) <= rule.window, scores, -np.inf)
        top = scores.max(-1, keepdims=True)
        below = np.exp(scores - top).sum(-1, keepdims=True)
        if rule.sinks is not None:
            below = below + np.exp(np.array(rule.sinks, np.float64)[:, None, None] - top)
        found.append((np.exp(scores - top) / below @ v).swapaxes(0, 1).reshape(count, -1))
        start += count
    return np.concatenate(found)


@DEVICES
@pytest.mark.parametrize("counts", [[5], [1], [4, 4, 4], [3, 9, 9, 1, 70, 3]], ids=str)
@pytest.mark.parametrize(
    "how",
    [{}, {"window": 2}, {"window": 0}, {"softcap": 1.5}, {"softcap": 1.5, "window": 3}, {"sinks": True}],
    ids=str,
)
def test_segments(device: Any, counts: list[int], how: dict[str, Any]) -> None:
    sinks = mx.linspace(-1, 2, HEADS) if "sinks" in how else None
    drawn, rule = rows(counts), PackedRule(0.4, **{**how, "sinks": sinks})
    folded = [mx.array(x, mx.float32)[:, :, None] for x in drawn]
    if len(counts) == 1:
        folded = [x.transpose(2, 1, 0, 3) for x in folded]
    got = packed_attention(*folded, Segments(counts), rule, device)
    np.testing.assert_allclose(np.array(got), oracle(drawn, counts, rule), atol=2e-6)


@DEVICES
@pytest.mark.parametrize("how", [{}, {"window": 4}, {"softcap": 2.0}], ids=str)
def test_what_distance_adds(device: Any, how: dict[str, Any]) -> None:
    counts, far = [3, 11, 11], 6
    apart = np.random.default_rng(1).standard_normal((HEADS, 2 * far + 1))
    drawn, rule = rows(counts), PackedRule(0.4, **how)
    segments = Segments(counts, mx.array(apart, mx.float32))
    got = packed_attention(*(mx.array(x, mx.float32)[:, :, None] for x in drawn), segments, rule, device)
    np.testing.assert_allclose(np.array(got), oracle(drawn, counts, rule, apart), atol=2e-6)


def test_neighbours_of_equal_length_are_one_call() -> None:
    assert list(Segments([4, 4, 2, 4]).alike()) == [(4, 4, 2), (2, 2, 1), (4, 4, 1)]
    assert list(Segments([4, 4, 4], seen=[4, 2, 2]).alike()) == [(4, 4, 1), (4, 2, 2)]


def test_distances_share_buckets_as_t5s_do() -> None:
    """Written out from the paper's words, with logarithms of any base."""
    buckets, furthest = 32, 128
    table = np.arange(buckets, dtype=np.float32)[:, None] @ np.ones((1, 3), np.float32)
    got = np.array(by_distance(mx.array(table), furthest))
    assert got.shape == (3, 2 * furthest + 1)
    for ahead in range(-furthest, furthest + 1):
        far = abs(ahead)
        own = far if far < 8 else min(15, 8 + math.floor(8 * math.log2(far / 8) / math.log2(16) + 1e-9))
        assert (got[:, ahead + furthest] == own + (16 if ahead > 0 else 0)).all(), ahead


@pytest.mark.parametrize("counts", [[70], [66, 3]], ids=str)
def test_heads_that_are_widened_for_a_gpu(counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What MLX is handed is as wide as a form that holds no scores; what comes out is what there was."""
    drawn, rule, seen = rows(counts), PackedRule(0.4), []
    attend = mx.fast.scaled_dot_product_attention

    def listening(q: mx.array, *others: Any, **how: Any) -> mx.array:
        seen.append(q.shape)
        return attend(q, *others, **how)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", listening)
    folded = [mx.array(x, mx.float32)[:, :, None] for x in drawn]
    if len(counts) == 1:
        folded = [x.transpose(2, 1, 0, 3) for x in folded]
    got = packed_attention(*folded, Segments(counts), rule, replace(this_device(native=False), gpu=True))
    assert np.abs(np.array(got) - oracle(drawn, counts, rule)).max() < 1e-5
    assert {shape[-1] for shape in seen} == {64}
