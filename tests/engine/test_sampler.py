"""Each token that is drawn, and what from, against plain loops in float64; and that seeds mean something."""

from __future__ import annotations

import secrets
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxrun.cpu_kernels import available

from mlxrun.core import RequestError, Sampling, TokenLogprob
from mlxrun.engine.sampler import Draw, Samples, sample
from mlxrun.ops.device import Device, this_device

from . import sampling_oracle as oracle

FORMS = {"plain": this_device(native=False), **({"native": this_device(native=True)} if available else {})}
VOCABS = st.sampled_from([1, 2, 5, 31, 32, 33, 63, 64, 65, 200])


@pytest.fixture(params=FORMS.values(), ids=FORMS)
def device(request: pytest.FixtureRequest) -> Device:
    found: Device = request.param
    return found


def draw(logits: np.ndarray, sampling: Sampling, count: int, device: Device) -> list[int]:
    """`count` tokens, one after the other as one request draws them, a hundred rows at a time."""
    seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
    draws = [Draw(sampling, seed, index) for index in range(count)]
    rows = mx.broadcast_to(mx.array(logits, mx.float32), (100, len(logits)))
    tokens: list[int] = []
    for start in range(0, count, 100):
        some = draws[start : start + 100]
        samples = sample(rows[: len(some)], some, device)
        tokens += [samples.token(row) for row in range(len(some))]
    return tokens


def one(logits: mx.array, sampling: Sampling, device: Device) -> tuple[int, TokenLogprob | None]:
    samples = sample(logits, [Draw(sampling, sampling.seed or 0, 0)], device)
    return samples.token(0), samples.logprob(0)


def allowances(vocab: int) -> list[frozenset[int]]:
    """Every other token, all of them, and next to none: words of a mask that are all, nothing and between."""
    if vocab <= 6:
        return []
    return [
        frozenset(found)
        for found in (range(0, vocab, 2), range(vocab), range(vocab - 4, vocab), range(3, min(36, vocab)))
    ]


def same_as_oracle(rows: np.ndarray, draws: list[Draw], device: Device) -> None:
    """Each token, but where the best two differ by rounding only or a cut goes through rounding."""
    samples = sample(mx.array(rows, mx.float32), draws, device)
    for row, one_draw in enumerate(draws):
        scores = oracle.edited(rows[row], one_draw)
        token = samples.token(row)
        if scores.max() == -np.inf:
            assert token == -2
            continue
        if one_draw.sampling.temperature == 0:
            assert scores[token] >= scores.max() - 1e-4
            continue
        p = oracle.chances(scores, one_draw.sampling, coin=one_draw.coin, surprise=one_draw.surprise)
        with np.errstate(divide="ignore"):
            far = oracle.times(len(p), one_draw.keys) / p
        assert far[token] <= far.min() * (1 + 1e-4), (one_draw, token, int(far.argmin()))


@given(data=st.data(), vocab=VOCABS, seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", FORMS)
def test_every_cut(name: str, data: st.DataObject, vocab: int, seed: int) -> None:
    """Odd limits, which no sum of chances meets by accident."""
    rng = np.random.default_rng(seed)
    kinds = st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5, 100.0]),
        top_p=st.sampled_from([1.0, 0.9513, 0.5007, 0.0131]),
        top_k=st.sampled_from([0, 1, 2, 5, 50, 1000, 2**31, 2**63]),
        min_p=st.sampled_from([0.0, 0.0531, 0.3017, 1.0]),
        top_n_sigma=st.sampled_from([0.0, 0.5003, 1.0007, 3.0]),
        typical_p=st.sampled_from([1.0, 0.9019, 0.2003]),
        xtc_probability=st.sampled_from([0.0, 0.5, 1.0]),
        xtc_threshold=st.sampled_from([0.1013, 0.0307, 0.5009]),
    )
    draws = [Draw(data.draw(kinds), int(rng.integers(2**63)), int(rng.integers(100))) for _ in range(4)]
    rows = np.round(rng.normal(0, 3, (4, vocab)), 4)  # apart enough for float32 at a temperature of 100, or equal
    same_as_oracle(rows, draws, FORMS[name])


@given(data=st.data(), vocab=VOCABS, seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", FORMS)
def test_every_edit(name: str, data: st.DataObject, vocab: int, seed: int) -> None:
    """What was said; bans, biases and minimal lengths."""
    rng = np.random.default_rng(seed)
    ids = st.integers(0, vocab - 1)
    kinds = st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.7]),
        top_k=st.sampled_from([0, 3]),
        repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
        presence_penalty=st.sampled_from([0.0, 0.7, -1.1]),
        frequency_penalty=st.sampled_from([0.0, 0.4, -0.3]),
        repeat_last_n=st.sampled_from([0, 1, 4]),
        dry_multiplier=st.sampled_from([0.0, 0.8]),
        dry_base=st.sampled_from([1.75, 1.1]),
        dry_allowed_length=st.sampled_from([1, 2, 5]),
        dry_penalty_last_n=st.sampled_from([0, 3, 20]),
        dry_breakers=st.frozensets(ids, max_size=2),
        bias=st.lists(st.tuples(ids, st.sampled_from([-100.0, -1.0, 2.5])), max_size=3).map(tuple),
        banned=st.frozensets(ids, max_size=2),
        allowed=st.sampled_from([None, *allowances(vocab)]),
        min_tokens=st.sampled_from([0, 5]),
    )
    draws = []
    for _ in range(3):
        prompt, answer = (data.draw(st.lists(st.integers(0, min(vocab, 4) - 1), max_size=70)) for _ in range(2))
        stops = frozenset(data.draw(st.lists(ids, max_size=2)))
        found = data.draw(kinds)
        draws.append(Draw(found, int(rng.integers(2**63)), 2, [*prompt, *answer], len(prompt), stops))
    same_as_oracle(rng.normal(0, 3, (3, vocab)), draws, FORMS[name])


@pytest.mark.parametrize("width", [4000, 49_152])
@pytest.mark.parametrize("spread", [0.5, 3.0, 12.0])
def test_wide_rows(device: Device, width: int, spread: float) -> None:
    rng = np.random.default_rng(7)
    kinds = [
        Sampling(1.0),
        Sampling(1.0, top_p=0.9013),
        Sampling(1.0, top_k=40),
        Sampling(1.0, top_k=3000),
        Sampling(1.0, top_k=2**31),
        Sampling(1.0, top_k=2**63),
        Sampling(1.0, typical_p=0.9017),
        Sampling(1.0, top_n_sigma=1.0003),
        Sampling(0.8, top_k=64, top_p=0.9507, min_p=0.0501),
        Sampling(2.0, xtc_probability=1.0, xtc_threshold=0.0101),
        Sampling(1.0, mirostat_tau=5.0003),
    ]
    draws = [Draw(kind, 5, index) for index, kind in enumerate(kinds)]
    same_as_oracle(rng.normal(0, spread, (len(kinds), width)), draws, device)


def test_what_breaks_a_sequence_is_not_punished_for_going_on_with_it(device: Device) -> None:
    text, logits = [5, 6, 2, 5, 6], mx.array([[0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0]])
    for breakers, token in ((frozenset({2}), 2), (frozenset[int](), 3)):
        kind = Sampling(0, dry_multiplier=2.0, dry_allowed_length=1, dry_breakers=breakers)
        assert sample(logits, [Draw(kind, 0, 5, text, 0)], device).token(0) == token


@pytest.mark.parametrize("kind", [Sampling(1.0, top_k=1), Sampling(1.0, min_p=1.0), Sampling(1.0, top_p=0.001)])
def test_equals_stay_together_however_many_they_are(device: Device, kind: Sampling) -> None:
    draws = [Draw(kind, 5, index) for index in range(4)]
    same_as_oracle(np.repeat([[0.0, -1.0]], [2000, 1000], axis=1).repeat(4, axis=0), draws, device)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.8, top_p=0.9, seed=1),
        Sampling(1.3, top_k=4, seed=2),
        Sampling(1.0, typical_p=0.7, seed=3),
        Sampling(1.0, seed=4, xtc_probability=1.0, xtc_threshold=0.15),
        Sampling(1.0, seed=5, min_p=0.3),
    ],
)
def test_frequencies_follow_the_distribution(device: Device, sampling: Sampling) -> None:
    """Chi-square, at one in a thousand."""
    logits, count = np.array([1.0, 0.0, 2.0, -1.0, 1.5, 0.7]), 20_000
    p = oracle.chances(logits, sampling, coin=0.0)
    counts = np.bincount(draw(logits, sampling, count, device), minlength=6)
    assert (counts[p == 0] == 0).all()
    there = p > 0
    off = float((np.square(counts - count * p)[there] / (count * p[there])).sum())
    assert off < {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52}[int(there.sum()) - 1]


def test_a_coin_falls_as_often_as_it_should(device: Device) -> None:
    likely_first = np.array([2.0, 1.9, -9.0])
    sampling = Sampling(1.0, seed=6, xtc_probability=0.25, xtc_threshold=0.3)
    tokens = draw(likely_first, sampling, 8000, device)
    share = 0.75 / (1 + np.exp(-0.1))
    assert abs(tokens.count(0) - 8000 * share) < 4 * np.sqrt(8000 * share * (1 - share))


def test_seeds(device: Device) -> None:
    logits = np.zeros(1000)
    one, same, other = (draw(logits, Sampling(seed=s), 20, device) for s in (2**64 - 1, 2**64 - 1, 5))
    assert one == same
    assert one != other
    assert draw(logits, Sampling(), 20, device) != draw(logits, Sampling(), 20, device)  # no seed: another answer


def test_both_forms_draw_the_same_tokens() -> None:
    logits = np.random.default_rng(4).normal(0, 2, 500)
    first, *others = (draw(logits, Sampling(0.9, seed=8, top_p=0.97), 2000, device) for device in FORMS.values())
    assert all(sum(a != b for a, b in zip(first, other, strict=True)) <= 1 for other in others)  # by rounding


def test_greedy_takes_the_first_of_the_largest(device: Device) -> None:
    assert draw(np.array([0.0, 3.0, 3.0, -np.inf]), Sampling(0), 3, device) == [1, 1, 1]


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0])
def test_narrow_and_extreme_logits(dtype: mx.Dtype, temperature: float, device: Device) -> None:
    logits = mx.array([-60000.0, 60000.0, 50000.0, -mx.inf], dtype)[None]
    assert one(logits, Sampling(temperature, seed=0), device)[0] == 1


@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.0), Sampling(1.0, top_p=0.5, top_k=2, min_p=0.1)])
@pytest.mark.parametrize("place", [0, 1, 17])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_told(sampling: Sampling, place: int, value: float, device: Device) -> None:
    logits = np.arange(18.0)
    logits[place] = value
    assert draw(logits, sampling, 1, device) == [-1]


def test_nothing_left_is_told(device: Device) -> None:
    assert draw(np.zeros(3), Sampling(1.0, banned=frozenset(range(3))), 1, device) == [-2]
    assert draw(np.array([0.0, -np.inf]), Sampling(0, banned=frozenset({0})), 1, device) == [-2]


@pytest.mark.parametrize("wanted", [0, 2, 20])
def test_logprobs_are_the_models_own(wanted: int, device: Device) -> None:
    logits = np.random.default_rng(3).normal(0, 2, 12)
    exact = logits - np.log(np.exp(logits).sum())
    asked = Sampling(0.1, top_k=1, logprobs=wanted, bias=((3, 9.0),))
    token, found = one(mx.array(logits, mx.float32)[None], asked, device)
    assert found is not None
    assert token == 3
    assert found.logprob == pytest.approx(exact[token], abs=1e-5)
    assert [i for i, _ in found.top] == list(np.argsort(-logits)[: min(wanted, 12)])
    assert [p for _, p in found.top] == pytest.approx(sorted(exact, reverse=True)[: min(wanted, 12)], abs=1e-5)


def test_far_logprobs_are_in_order(device: Device) -> None:
    """Where all shares but one are too small for a weight."""
    logits = np.array([0.0, *range(-900, -500)])
    _, found = one(mx.array(logits, mx.float32)[None], Sampling(0, logprobs=4), device)
    assert found is not None
    assert [i for i, _ in found.top] == [0, 400, 399, 398]


def test_nobody_asked_for_logprobs(device: Device) -> None:
    samples = sample(mx.zeros((1, 5)), [Draw(Sampling(1.0), 0, 0)], device)
    assert samples.logprob(0) is None
    assert samples.drawn.own is None


def everything(device: Device) -> list[Draw]:
    text = [1, 2, 3, 1, 2, 3, 1, 2]
    kinds = [
        Sampling(0),
        Sampling(1.0, seed=3),
        Sampling(0.7, top_p=0.9, seed=3, logprobs=3),
        Sampling(0, repetition_penalty=1.3, dry_multiplier=2.0, dry_breakers=frozenset({2})),
        Sampling(2.0, top_k=7, min_p=0.02, seed=9, dry_multiplier=2.0),
        Sampling(1.0, seed=4, mirostat_tau=2.0),
        Sampling(1.0, seed=4, allowed=frozenset({4, 5, 6}), bias=((4, 1.0),)),
        Sampling(1.0, seed=4, presence_penalty=1.0, frequency_penalty=0.5),
    ]
    draws = [Draw(sampling, sampling.seed or 0, 11, text, 3) for sampling in kinds]
    earlier = sample(mx.zeros((8, 40)), [replace(one_draw, index=10) for one_draw in draws], device)
    return [
        replace(one_draw, surprise=earlier.surprise(row)) if row % 3 else one_draw for row, one_draw in enumerate(draws)
    ]


def test_a_row_does_not_depend_on_the_rows_beside_it(device: Device) -> None:
    rows = mx.array(np.random.default_rng(1).normal(0, 2, (8, 40)), mx.float32)
    draws = everything(device)
    together = sample(rows, draws, device)
    for row, draw_of_it in enumerate(draws):
        alone = sample(rows[row : row + 1], [draw_of_it], device)
        assert together.token(row) == alone.token(0)
        assert together.logprob(row) == alone.logprob(0)


def test_mirostat_comes_to_the_surprise_that_is_asked_for(device: Device) -> None:
    rng, sampling = np.random.default_rng(2), Sampling(1.0, seed=1, mirostat_tau=3.0, mirostat_eta=0.2)
    logits, surprise, seen = rng.normal(0, 2, 300), None, []
    for index in range(400):
        samples = sample(mx.array(logits, mx.float32)[None], [Draw(sampling, 1, index, surprise=surprise)], device)
        token = samples.token(0)
        p = oracle.chances(logits, sampling, surprise=surprise)
        seen.append(-np.log2(p[token]))
        before = 6.0 if surprise is None else surprise
        surprise = samples.surprise(0)
        assert surprise == pytest.approx(before - 0.2 * (seen[-1] - 3.0), abs=1e-3)
    assert np.mean(seen[100:]) == pytest.approx(3.0, abs=0.15)


def test_only_the_row_that_is_no_number_is_told(device: Device) -> None:
    rows = mx.array([[0.0, 1.0], [mx.nan, 1.0], [2.0, 1.0]])
    samples = sample(rows, [Draw(Sampling(0), 0, 0)] * 3, device)
    assert [samples.token(row) for row in range(3)] == [1, -1, 0]


def test_draws_of_neighbouring_seeds_and_places_differ() -> None:
    keys = {Draw(Sampling(), seed, index).keys for seed in range(40) for index in range(40)}
    assert len(keys) == 1600
    assert len({half for pair in keys for half in pair}) > 3190


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match="mirostat needs a temperature above 0"):
        Sampling(0, mirostat_tau=5.0)
    with pytest.raises(RequestError, match="No token is left"):
        Sampling(allowed=frozenset({1}), banned=frozenset({1, 2}))
    with pytest.raises(RequestError, match="bias must be numbers from -100 to 100, not 101"):
        Sampling(bias=((1, 101.0),))
    with pytest.raises(RequestError, match="dry_base must be a number from 1 to 4, not nan"):
        Sampling(dry_base=float("nan"))


def test_reading_starts_nothing(device: Device) -> None:
    samples = sample(mx.zeros((2, 5)), [Draw(Sampling(1.0), 0, 0)] * 2, device)
    assert isinstance(samples, Samples)
    assert samples.token(0) == samples.token(1)
