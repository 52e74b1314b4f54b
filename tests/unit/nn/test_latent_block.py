"""Latent attention against the expanded definition in NumPy float64: every head's keys written out."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mixing import LENGTHS, TIMETABLES, Draw, rms, run, softmax

from mlxrun.cache.keys import Keys
from mlxrun.nn.latent import LatentAttentionBlock
from mlxrun.nn.params import Params
from mlxrun.ops.device import this_device
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import Indexer, LatentAttention, Norm, Rope, Temperature

DIM = 20


def rope(dims, interleaved, scale=1.0):
    return Rope(dims, tuple(100.0 ** (2 * i / dims) for i in range(dims // 2)), interleaved, scale)


PLAIN = LatentAttention(
    heads=3, q_rank=None, kv_rank=16, nope_dim=5, rope_dim=4, v_dim=7, scale=0.3, rope=rope(4, True), norm=Norm(1e-5)
)
LOW = replace(PLAIN, q_rank=12, bias=True)
CASES = {
    "plain": PLAIN,
    "low rank, bias": LOW,
    "half-split, yarn": replace(LOW, rope=rope(4, False, 1.3)),
    "temperature": replace(LOW, temperature=Temperature(0.4, 8.0)),
    "narrow": replace(PLAIN, kv_rank=5),  # absorbed always; in the others long chunks are expanded
}
SPARSE = {  # enough index heads, so that no two keys tie at a score of zero
    "half-split": replace(LOW, indexer=Indexer(40, 6, 5, rope(4, False), Norm(1e-6, "layer", bias=True))),
    "interleaved": replace(LOW, indexer=Indexer(40, 6, 11, rope(4, True), Norm(1e-6, "layer", bias=True))),
}


def keys():
    return Keys()


def rotate(x, r):
    """x (T, heads, D): the first dims of row t turned by t / freqs."""
    turned = x.copy()
    for i, freq in enumerate(r.freqs):
        a, b = (2 * i, 2 * i + 1) if r.interleaved else (i, i + r.dims // 2)
        angle = np.arange(len(x))[:, None] / freq
        turned[..., a] = r.scale * (x[..., a] * np.cos(angle) - x[..., b] * np.sin(angle))
        turned[..., b] = r.scale * (x[..., a] * np.sin(angle) + x[..., b] * np.cos(angle))
    return turned


def drawn(s, seed=5):
    draw = Draw(seed)
    queries = s.heads * (s.nope_dim + s.rope_dim)
    if s.q_rank is None:
        draw(q__weight=(queries, DIM))
    else:
        draw(q_a__weight=(s.q_rank, DIM), q_b__weight=(queries, s.q_rank))
        draw.around_one(q_a_norm__weight=(s.q_rank,))
    draw(kv_a__weight=(s.kv_rank + s.rope_dim, DIM), o__weight=(DIM, s.heads * s.v_dim))
    draw(k_b__weight=(s.heads, s.nope_dim, s.kv_rank), v_b__weight=(s.heads, s.v_dim, s.kv_rank))
    draw.around_one(kv_a_norm__weight=(s.kv_rank,))
    if s.bias:
        draw(q_a__bias=(s.q_rank,), kv_a__bias=(s.kv_rank + s.rope_dim,), o__bias=(DIM,))
    if s.indexer:
        i = s.indexer
        draw(index__q__weight=(i.heads * i.dim, s.q_rank), index__k__weight=(i.dim, DIM))
        draw(index__weights__weight=(i.heads, DIM), index__k_norm__bias=(i.dim,))
        draw.around_one(index__k_norm__weight=(i.dim,))
    return draw


def choose(w, i, x, low):
    """(T, T) of True where query t may look at key j."""
    count = len(x)
    q = rotate((low @ w["index.q.weight"].T).reshape(count, i.heads, i.dim), i.rope)
    k = x @ w["index.k.weight"].T
    k = (k - k.mean(-1, keepdims=True)) / np.sqrt(k.var(-1, keepdims=True) + i.norm.eps)
    k = rotate((k * w["index.k_norm.weight"] + w["index.k_norm.bias"])[:, None], i.rope)[:, 0]
    scores = np.maximum(np.einsum("thd,sd->ths", q, k) * i.dim**-0.5, 0)
    scores = np.einsum("ths,th->ts", scores, x @ w["index.weights.weight"].T * i.heads**-0.5)
    picked = np.zeros((count, count), bool)
    for t in range(count):
        picked[t, np.argsort(-scores[t, : t + 1])[: i.top_k]] = True
    return picked


def oracle(w, s, x, picked=None):
    count = len(x)
    low = x if s.q_rank is None else rms(x @ w["q_a.weight"].T + w.get("q_a.bias", 0), w["q_a_norm.weight"], 1e-5)
    q = (low @ w["q.weight" if s.q_rank is None else "q_b.weight"].T).reshape(count, s.heads, -1)
    latent, k_pe = np.split(x @ w["kv_a.weight"].T + w.get("kv_a.bias", 0), [s.kv_rank], axis=-1)
    latent = rms(latent, w["kv_a_norm.weight"], 1e-5)
    q = np.concatenate([q[..., : s.nope_dim], rotate(q[..., s.nope_dim :], s.rope)], -1)
    if s.temperature:
        q = q * (1 + s.temperature.beta * np.log(1 + np.arange(count) // s.temperature.floor))[:, None, None]
    k_pe = rotate(k_pe[:, None], s.rope).repeat(s.heads, 1)
    k = np.concatenate([np.einsum("sr,hnr->shn", latent, w["k_b.weight"]), k_pe], -1)
    v = np.einsum("sr,hvr->shv", latent, w["v_b.weight"])
    seen = np.tril(np.ones((count, count), bool))
    if s.indexer:
        seen = seen & (choose(w, s.indexer, x, low) if picked is None else picked)
    weights = softmax(np.where(seen, np.einsum("thd,shd->hts", q, k) * s.scale, -np.inf))
    y = np.einsum("hts,shv->thv", weights, v).reshape(count, -1)
    return y @ w["o.weight"].T + w.get("o.bias", 0)


def close(got, want):
    for g, x in zip(got, want, strict=True):
        np.testing.assert_allclose(g, x, atol=2e-5)


@pytest.mark.parametrize("timetable", TIMETABLES)
@pytest.mark.parametrize("case", CASES)
def test_against_the_definition(case, timetable):
    s = CASES[case]
    draw = drawn(s)
    params = draw.params()
    block = LatentAttentionBlock(s, DIM, params)
    assert params.leftovers() == []
    assert (block.expand_from > LENGTHS[0]) == (case == "narrow")
    sequences = draw.sequences(DIM)
    close(run(block, keys, sequences, TIMETABLES[timetable]), [oracle(draw.weights, s, x) for x in sequences])


@pytest.mark.parametrize("timetable", TIMETABLES)
@pytest.mark.parametrize("case", SPARSE)
def test_chosen_keys_only(case, timetable):
    s = SPARSE[case]
    draw = drawn(s)
    block = LatentAttentionBlock(s, DIM, draw.params())
    sequences = draw.sequences(DIM)
    want = [oracle(draw.weights, s, x) for x in sequences]
    dense = oracle(draw.weights, replace(s, indexer=None), sequences[0])
    assert np.abs(dense - want[0]).max() > 0.1  # the choice matters
    close(run(block, keys, sequences, TIMETABLES[timetable]), want)


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_a_later_layer_shares_the_choice(timetable):
    s = SPARSE["half-split"]
    lender, borrower = replace(s, indexer=replace(s.indexer, lends=0)), replace(s, indexer=None, borrows=0)
    first, second = drawn(lender), drawn(borrower, seed=6)
    blocks = [LatentAttentionBlock(lender, DIM, first.params()), LatentAttentionBlock(borrower, DIM, second.params())]

    def both(x, p, memories):
        """Two layers that read the same rows, the second without an indexer."""
        return mx.concatenate([b(x, p, [m[i] for m in memories]) for i, b in enumerate(blocks)], axis=-1)

    sequences = first.sequences(DIM)
    got = run(both, lambda: (keys(), keys()), sequences, TIMETABLES[timetable])
    for y, x in zip(got, sequences, strict=True):
        w = first.weights
        low = rms(x @ w["q_a.weight"].T + w["q_a.bias"], w["q_a_norm.weight"], 1e-5)
        picked = choose(w, s.indexer, x, low)
        close([y[:, DIM:]], [oracle(second.weights, s, x, picked)])


def quantized(weight, turned):
    parts = mx.quantize(mx.array(weight.swapaxes(-1, -2) if turned else weight, mx.float32), group_size=32, bits=4)
    return QuantizedWeight(*parts, "affine", 4, 32)


@pytest.mark.parametrize("turned", [False, True])
def test_quantized_in_either_direction(turned):
    """k_b with groups along the rank, or k_bt with groups along the head: the bits are used as they lie."""
    s = replace(PLAIN, kv_rank=64, nope_dim=32, v_dim=32)
    draw = drawn(s)
    k_b, v_b = quantized(draw.weights["k_b.weight"], turned), quantized(draw.weights["v_b.weight"], False)
    stored = {name: mx.array(value, mx.float32) for name, value in draw.weights.items() if name != "k_b.weight"}
    stored |= {"v_b.weight": v_b, "k_bt.weight" if turned else "k_b.weight": k_b}
    params = Params(stored, this_device())
    block = LatentAttentionBlock(s, DIM, params)
    assert params.leftovers() == []
    assert 64 <= block.expand_from <= 70  # the long sequence is expanded when it comes at once, absorbed in pieces
    full = np.array(k_b.dequantize(), np.float64)
    known = draw.weights | {
        "k_b.weight": full.swapaxes(-1, -2) if turned else full,
        "v_b.weight": np.array(v_b.dequantize()),
    }
    sequences = draw.sequences(DIM)
    want = [oracle(known, s, x) for x in sequences]
    for timetable in ("together", "uneven chunks"):
        close(run(block, keys, sequences, TIMETABLES[timetable]), want)
