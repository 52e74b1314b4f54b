"""The distribution that a token is drawn from, against NumPy in float64; and that seeds mean something."""

from __future__ import annotations

import secrets

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxrun.core import Sampling, TokenLogprob
from mlxrun.engine.sampler import Draw, candidates, numbers, sample


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
    """`count` tokens, one after the other as one request draws them, a hundred rows at a time."""
    seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
    draws = [Draw(sampling, seed, index) for index in range(count)]
    rows = mx.broadcast_to(mx.array(logits, mx.float32), (100, len(logits)))
    tokens: list[int] = []
    for start in range(0, count, 100):
        some = draws[start : start + 100]
        samples = sample(rows[: len(some)], some)
        tokens += [samples.token(row) for row in range(len(some))]
    return tokens


def one(logits: mx.array, sampling: Sampling) -> tuple[int, TokenLogprob | None]:
    samples = sample(logits, [Draw(sampling, sampling.seed or 0, 0)])
    return samples.token(0), samples.logprob(0)


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
    assert one(logits, Sampling(temperature, seed=0))[0] == 1


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
    token, found = one(mx.array(logits, mx.float32)[None], Sampling(0.1, top_k=1, logprobs=wanted))
    assert found is not None
    assert found.logprob == pytest.approx(exact[token], abs=1e-5)
    assert [i for i, _ in found.top] == list(np.argsort(-logits)[: min(wanted, 12)])
    assert [p for _, p in found.top] == pytest.approx(sorted(exact, reverse=True)[: min(wanted, 12)], abs=1e-5)


def test_nobody_asked_for_logprobs() -> None:
    samples = sample(mx.zeros((1, 5)), [Draw(Sampling(1.0), 0, 0)])
    assert samples.logprob(0) is None
    assert len(samples.arrays) == 1


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    rows = mx.array(np.random.default_rng(1).normal(0, 2, (5, 40)), mx.float32)
    kinds = [
        Sampling(0),
        Sampling(1.0, seed=3),
        Sampling(0.7, top_p=0.9, seed=3, logprobs=3),
        Sampling(0),
        Sampling(2.0, top_k=7, min_p=0.02, seed=9),
    ]
    draws = [Draw(sampling, sampling.seed or 0, 11) for sampling in kinds]
    together = sample(rows, draws)
    for row, draw_of_it in enumerate(draws):
        alone = sample(rows[row : row + 1], [draw_of_it])
        assert together.token(row) == alone.token(0)
        assert together.logprob(row) == alone.logprob(0)


def test_only_the_row_that_is_no_number_is_told() -> None:
    rows = mx.array([[0.0, 1.0], [mx.nan, 1.0], [2.0, 1.0]])
    samples = sample(rows, [Draw(Sampling(0), 0, 0)] * 3)
    assert [samples.token(row) for row in range(3)] == [1, -1, 0]


def test_draws_of_neighbouring_seeds_and_places_differ() -> None:
    keys = {tuple(numbers(Draw(Sampling(), seed, index).key)) for seed in range(40) for index in range(40)}
    assert len(keys) == 1600
