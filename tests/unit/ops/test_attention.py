"""Attention against softmax written out in NumPy float64."""

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.attention import alibi, attention, capped_attention_over
from mlxrun.ops.device import this_device
from mlxrun.ops.masks import Sight, boolean, mask
from mlxrun.ops.span import Span

HEADS, GROUPS, DIM = 6, 2, 16


def oracle(q, k, v, scale, seen, softcap=None, sinks=None, bias=None):
    k, v = (np.repeat(t, HEADS // GROUPS, axis=1) for t in (k, v))
    scores = np.einsum("bhld,bhsd->bhls", q, k) * scale
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    scores = np.where(seen, scores, -np.inf)
    if sinks is not None:
        scores = np.concatenate([scores, np.broadcast_to(sinks[:, None, None], (1, HEADS, scores.shape[2], 1))], -1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    return np.einsum("bhls,bhsd->bhld", weights[..., : k.shape[2]], v)


@pytest.fixture
def drawn():
    rng = np.random.default_rng(3)
    return [rng.standard_normal((1, n, length, DIM)) for n, length in ((HEADS, 4), (GROUPS, 11), (GROUPS, 11))]


QUERIES, KEYS = range(7, 11), range(11)


@pytest.mark.parametrize("sight", [Sight(), Sight(window=3), Sight(chunk=4)])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_plain(drawn, sight, with_sinks):
    sinks = np.linspace(-1, 2, HEADS) if with_sinks else None
    got = attention(
        *(mx.array(t, mx.float32) for t in drawn),
        this_device(),
        scale=0.4,
        seen=mask(sight, QUERIES, KEYS),
        sinks=None if sinks is None else mx.array(sinks, mx.float32),
    )
    want = oracle(*drawn, 0.4, np.array(boolean(sight, QUERIES, KEYS)), sinks=sinks)
    np.testing.assert_allclose(np.array(got), want, atol=2e-6)


@pytest.mark.parametrize("device", [this_device(), this_device(native=False)], ids=["native", "plain"])
@pytest.mark.parametrize("window", [5, None])
def test_soft_cap(drawn, device, window):
    q, k, v = (mx.array(t, mx.float32) for t in drawn)
    seen = None if window is None else boolean(Sight(window=window), QUERIES, KEYS)
    got = capped_attention_over(q, Span.of((k, v), 0), device, scale=2.0, seen=seen, softcap=1.5)
    want = oracle(*drawn, 2.0, True if seen is None else np.array(seen), softcap=1.5)
    np.testing.assert_allclose(np.array(got), want, atol=2e-6)


def test_alibi(drawn):
    slopes = np.array([2.0**-i for i in range(1, HEADS + 1)])
    bias = alibi(mx.array(slopes, mx.float32), Sight(), QUERIES, KEYS)
    got = attention(*(mx.array(t, mx.float32) for t in drawn), this_device(), scale=0.4, seen=bias)
    distance = slopes[:, None, None] * np.arange(11)
    want = oracle(*drawn, 0.4, np.array(boolean(Sight(), QUERIES, KEYS)), bias=distance)
    np.testing.assert_allclose(np.array(got), want, atol=2e-6)
