"""The distribution that a token is drawn from, against NumPy in float64; and that seeds mean something."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.core import Sampling
from mlxrun.engine.sampler import Sampler, candidates


def expected(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Temperature, then top-k, top-p, min-p; each on what the one before left, renormalised."""
    scaled = logits.astype(np.float64) / sampling.temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    if sampling.top_k:
        p[order[sampling.top_k :]] = 0
        p /= p.sum()
    if sampling.top_p < 1:
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= sampling.top_p]] = 0
        p /= p.sum()
    p[p < sampling.min_p * p.max()] = 0
    return p / p.sum()


def drawn_from(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    scores, ids = candidates(mx.array(logits, mx.float32), sampling)
    p = np.zeros(len(logits))
    p[np.arange(len(logits)) if ids is None else np.array(ids)] = np.array(mx.softmax(scores))
    return p


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 50),
    temperature=st.sampled_from([0.01, 0.3, 1.0, 2.5, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 50, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.013]),
    min_p=st.sampled_from([0.0, 0.053, 0.3, 1.0]),
)
def test_the_distribution(seed: int, size: int, temperature: float, top_k: int, top_p: float, min_p: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)
    sampling = Sampling(temperature, top_p, top_k, min_p)
    np.testing.assert_allclose(drawn_from(logits, sampling), expected(logits, sampling), atol=2e-5)


def draw(logits: np.ndarray, sampling: Sampling, count: int) -> list[int]:
    sampler = Sampler(sampling)
    row = mx.array(logits, mx.float32)[None]
    return [sampler(row).read() for _ in range(count)]


def test_frequencies_follow_the_distribution() -> None:
    logits, sampling, count = np.array([1.0, 0.0, 2.0, -1.0, 1.5]), Sampling(0.8, top_p=0.9, seed=1), 4000
    p = expected(logits, sampling)
    counts = np.bincount(draw(logits, sampling, count), minlength=5)
    assert (counts[p == 0] == 0).all()
    deviation = np.sqrt(count * p * (1 - p))
    assert (np.abs(counts - count * p) <= 4 * deviation).all()


def test_seeds() -> None:
    logits = np.zeros(1000)
    one, same, other = (draw(logits, Sampling(seed=s), 20) for s in (2**64 - 1, 2**64 - 1, 5))
    assert one == same
    assert one != other
    assert draw(logits, Sampling(), 20) != draw(logits, Sampling(), 20)  # no seed: another answer each time


def test_greedy_takes_the_first_of_the_largest() -> None:
    assert draw(np.array([0.0, 3.0, 3.0, -np.inf]), Sampling(0), 3) == [1, 1, 1]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0])
def test_narrow_and_extreme_logits(dtype: mx.Dtype, temperature: float) -> None:
    logits = mx.array([-60000.0, 60000.0, 50000.0, -mx.inf], dtype)[None]
    assert Sampler(Sampling(temperature, seed=0))(logits).read() == 1


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0), Sampling(1.0, top_p=0.5, top_k=2, min_p=0.1)])
@pytest.mark.parametrize("place", [0, 1, 4])
def test_what_is_not_a_number_is_told(sampling: Sampling, place: int) -> None:
    logits = np.arange(5.0)
    logits[place] = np.nan
    assert draw(logits, sampling, 1) == [-1]


@pytest.mark.parametrize("wanted", [0, 2, 20])
def test_logprobs_are_the_models_own(wanted: int) -> None:
    logits = np.random.default_rng(3).normal(0, 2, 12)
    exact = logits - np.log(np.exp(logits).sum())
    sample = Sampler(Sampling(0.1, top_k=1, logprobs=wanted))(mx.array(logits, mx.float32)[None])
    found = sample.read_logprob()
    assert found is not None
    assert found.logprob == pytest.approx(exact[sample.read()], abs=1e-5)
    assert [i for i, _ in found.top] == list(np.argsort(-logits)[: min(wanted, 12)])
    assert [p for _, p in found.top] == pytest.approx(sorted(exact, reverse=True)[: min(wanted, 12)], abs=1e-5)


def test_nobody_asked_for_logprobs() -> None:
    sample = Sampler(Sampling(1.0))(mx.zeros((1, 5)))
    assert sample.read_logprob() is None
    assert len(sample.arrays) == 1
