"""Recurrent mixers against their recurrences written out row by row in NumPy float64."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mixing import LENGTHS, TIMETABLES, Draw, causal_conv, causal_conv_silu, rms, run, sigmoid, silu, softplus

from mlxrun.cache.recurrent import Recurrent
from mlxrun.nn.batch import Pass
from mlxrun.nn.delta import ChannelDeltaBlock, GatedDeltaBlock
from mlxrun.nn.mamba1 import Mamba1Block
from mlxrun.nn.mamba2 import Mamba2Block
from mlxrun.nn.short_conv import ShortConvBlock
from mlxrun.spec import ChannelDelta, GatedDelta, Mamba1, Mamba2, Norm, ShortConv

DIM = 24
DELTA = GatedDelta(k_heads=2, v_heads=6, k_dim=8, v_dim=12, conv=4, norm=Norm(1e-5))


def delta_case(apart=False, strength=1.0):
    s, draw = replace(DELTA, apart=apart, strength=strength), Draw(1)
    keys, values = s.k_heads * s.k_dim, s.v_heads * s.v_dim
    parts = {"q__weight": (keys, DIM), "k__weight": (keys, DIM), "v__weight": (values, DIM)}
    draw(**(parts if apart else {"qkv__weight": (2 * keys + values, DIM)}))
    draw(z__weight=(values, DIM), a__weight=(s.v_heads, DIM))
    draw(b__weight=(s.v_heads, DIM), o__weight=(DIM, values), conv__weight=(2 * keys + values, s.conv))
    draw(A_log=(s.v_heads,), dt_bias=(s.v_heads,))
    draw.around_one(norm__weight=(s.v_dim,))
    return GatedDeltaBlock(s, DIM, draw.params()), lambda w, x: delta_oracle(s, w, x), draw


def delta_oracle(s, w, x):
    keys = s.k_heads * s.k_dim
    qkv = np.concatenate([w[f"{n}.weight"] for n in "qkv"]) if s.apart else w["qkv.weight"]
    q, k, v = np.split(causal_conv_silu(x @ qkv.T, w["conv.weight"]), [keys, 2 * keys], axis=-1)
    q, k = (t.reshape(len(x), s.k_heads, s.k_dim).repeat(s.v_heads // s.k_heads, 1) for t in (q, k))
    q, k = (t / np.sqrt((t * t).sum(-1, keepdims=True) + 1e-6) for t in (q, k))
    v = v.reshape(len(x), s.v_heads, s.v_dim)
    beta = s.strength * sigmoid(x @ w["b.weight"].T)
    decay = np.exp(-np.exp(w["A_log"]) * softplus(x @ w["a.weight"].T + w["dt_bias"]))
    state, y = np.zeros((s.v_heads, s.v_dim, s.k_dim)), []
    for t in range(len(x)):
        state = state * decay[t][:, None, None]
        wrong = v[t] - np.einsum("hvk,hk->hv", state, k[t])
        state = state + np.einsum("h,hv,hk->hvk", beta[t], wrong, k[t])
        y.append(np.einsum("hvk,hk->hv", state, q[t]) / np.sqrt(s.k_dim))
    z = (x @ w["z.weight"].T).reshape(len(x), s.v_heads, s.v_dim)
    return (rms(np.stack(y), w["norm.weight"], 1e-5) * silu(z)).reshape(len(x), -1) @ w["o.weight"].T


def channel_delta_case():
    s, draw = ChannelDelta(heads=3, dim=8, conv=4, rank=5, norm=Norm(1e-5)), Draw(5)
    width = s.heads * s.dim
    draw(q__weight=(width, DIM), k__weight=(width, DIM), v__weight=(width, DIM), conv__weight=(3 * width, s.conv))
    draw(decay_in__weight=(s.rank, DIM), decay__weight=(width, s.rank), gate_in__weight=(s.rank, DIM))
    draw(gate__weight=(width, s.rank), b__weight=(s.heads, DIM), o__weight=(DIM, width))
    draw(A_log=(s.heads,), dt_bias=(width,))
    draw.around_one(norm__weight=(s.dim,))
    return ChannelDeltaBlock(s, DIM, draw.params()), lambda w, x: channel_delta_oracle(s, w, x), draw


def channel_delta_oracle(s, w, x):
    qkv = np.concatenate([w[f"{n}.weight"] for n in "qkv"])
    q, k, v = np.split(causal_conv_silu(x @ qkv.T, w["conv.weight"]).reshape(len(x), -1, s.dim), 3, axis=1)
    q, k = (t / np.sqrt((t * t).sum(-1, keepdims=True) + 1e-6) for t in (q, k))
    beta = sigmoid(x @ w["b.weight"].T)
    steps = softplus(x @ w["decay_in.weight"].T @ w["decay.weight"].T + w["dt_bias"]).reshape(len(x), s.heads, s.dim)
    decay = np.exp(-np.exp(w["A_log"])[:, None] * steps)
    state, y = np.zeros((s.heads, s.dim, s.dim)), []
    for t in range(len(x)):
        state = state * decay[t][:, None]
        wrong = v[t] - np.einsum("hvk,hk->hv", state, k[t])
        state = state + np.einsum("h,hv,hk->hvk", beta[t], wrong, k[t])
        y.append(np.einsum("hvk,hk->hv", state, q[t]) / np.sqrt(s.dim))
    gate = sigmoid(x @ w["gate_in.weight"].T @ w["gate.weight"].T)
    return (rms(np.stack(y), w["norm.weight"], 1e-5).reshape(len(x), -1) * gate) @ w["o.weight"].T


def mamba1_case(norm=None, bias=False, conv_bias=True):
    s = Mamba1(inner=20, state=6, dt_rank=3, conv=3, norm=norm, bias=bias, conv_bias=conv_bias)
    draw = Draw(2)
    draw(inp__weight=(2 * s.inner, DIM), x__weight=(s.dt_rank + 2 * s.state, s.inner), o__weight=(DIM, s.inner))
    draw(dt__weight=(s.inner, s.dt_rank), dt__bias=(s.inner,), conv__weight=(s.inner, s.conv))
    draw(A_log=(s.inner, s.state), D=(s.inner,))
    if conv_bias:
        draw(conv__bias=(s.inner,))
    if bias:
        draw(inp__bias=(2 * s.inner,), o__bias=(DIM,))
    if norm is not None and norm.weight:
        draw.around_one(dt_norm__weight=(s.dt_rank,), b_norm__weight=(s.state,), c_norm__weight=(s.state,))
    return Mamba1Block(s, DIM, draw.params()), lambda w, x: mamba1_oracle(s, w, x), draw


def mamba1_oracle(s, w, x):
    u, gate = np.split(x @ w["inp.weight"].T + w.get("inp.bias", 0), 2, axis=-1)
    u = causal_conv_silu(u, w["conv.weight"], w.get("conv.bias", 0))
    dt, b, c = np.split(u @ w["x.weight"].T, [s.dt_rank, s.dt_rank + s.state], axis=-1)
    if s.norm is not None:
        dt, b, c = (rms(t, w.get(f"{n}_norm.weight", 1.0), s.norm.eps) for n, t in (("dt", dt), ("b", b), ("c", c)))
    dt = softplus(dt @ w["dt.weight"].T + w["dt.bias"])
    a, state, y = -np.exp(w["A_log"]), np.zeros((s.inner, s.state)), []
    for t in range(len(x)):
        state = np.exp(dt[t][:, None] * a) * state + (dt[t] * u[t])[:, None] * b[t]
        y.append(state @ c[t] + w["D"] * u[t])
    return (np.stack(y) * silu(gate)) @ w["o.weight"].T + w.get("o.bias", 0)


def mamba2_case(groups=1, norm_groups=1, dt_min=0.0, dt_max=float("inf"), bias=False):
    s = Mamba2(6, 8, groups, 5, 4, Norm(1e-5), norm_groups, dt_min, dt_max, bias=bias)
    inner = s.heads * s.head_dim
    channels = inner + 2 * groups * s.state
    draw = Draw(3)
    draw(inp__weight=(inner + channels + s.heads, DIM), o__weight=(DIM, inner), conv__weight=(channels, s.conv))
    draw(conv__bias=(channels,), A_log=(s.heads,), D=(s.heads,), dt_bias=(s.heads,))
    draw.around_one(norm__weight=(inner,))
    if bias:
        draw(inp__bias=(inner + channels + s.heads,), o__bias=(DIM,))
    return Mamba2Block(s, DIM, draw.params()), lambda w, x: mamba2_oracle(s, w, x), draw


def mamba2_oracle(s, w, x):
    inner, shared = s.heads * s.head_dim, s.groups * s.state
    gate, u, dt = np.split(x @ w["inp.weight"].T + w.get("inp.bias", 0), [inner, 2 * inner + 2 * shared], axis=-1)
    u = causal_conv_silu(u, w["conv.weight"], w["conv.bias"])
    u, b, c = np.split(u, [inner, inner + shared], axis=-1)
    u = u.reshape(len(x), s.heads, s.head_dim)
    b, c = (t.reshape(len(x), s.groups, s.state).repeat(s.heads // s.groups, 1) for t in (b, c))
    dt = np.clip(softplus(dt + w["dt_bias"]), s.dt_min, s.dt_max)
    state, y = np.zeros((s.heads, s.head_dim, s.state)), []
    for t in range(len(x)):
        state = np.exp(-dt[t] * np.exp(w["A_log"]))[:, None, None] * state
        state = state + np.einsum("h,hd,hn->hdn", dt[t], u[t], b[t])
        y.append(np.einsum("hdn,hn->hd", state, c[t]) + w["D"][:, None] * u[t])
    y = np.stack(y).reshape(len(x), inner) * silu(gate)
    y = rms(y.reshape(len(x), s.norm_groups, -1), 1.0, 1e-5).reshape(len(x), inner) * w["norm.weight"]
    return y @ w["o.weight"].T + w.get("o.bias", 0)


def short_conv_case(bias):
    s, draw = ShortConv(20, 3, bias), Draw(4)
    draw(inp__weight=(3 * s.channels, DIM), o__weight=(DIM, s.channels), conv__weight=(s.channels, s.conv))
    if bias:
        draw(inp__bias=(3 * s.channels,), o__bias=(DIM,), conv__bias=(s.channels,))
    return ShortConvBlock(s, DIM, draw.params()), short_conv_oracle, draw


def short_conv_oracle(w, x):
    before, after, rows = np.split(x @ w["inp.weight"].T + w.get("inp.bias", 0), 3, axis=-1)
    y = causal_conv(before * rows, w["conv.weight"]) + w.get("conv.bias", 0)
    return (after * y) @ w["o.weight"].T + w.get("o.bias", 0)


CASES = {
    "short convolution": lambda: short_conv_case(False),
    "short convolution, biases": lambda: short_conv_case(True),
    "delta": delta_case,
    "delta, olmo": lambda: delta_case(apart=True, strength=2.0),
    "delta by channel": channel_delta_case,
    "mamba1": mamba1_case,
    "mamba1, jamba": lambda: mamba1_case(Norm(1e-5), conv_bias=False),
    "mamba1, falcon": lambda: mamba1_case(Norm(1e-5, weight=False), bias=True),
    "mamba2": mamba2_case,
    "mamba2, nemotron": lambda: mamba2_case(groups=3, norm_groups=3, dt_min=0.6, bias=True),
    "mamba2, both limits": lambda: mamba2_case(groups=2, dt_min=0.3, dt_max=0.8),
}


@pytest.mark.parametrize("timetable", TIMETABLES)
@pytest.mark.parametrize("case", CASES)
def test_against_the_recurrence(case, timetable):
    block, oracle, draw = CASES[case]()
    sequences = draw.sequences(DIM)
    for got, x in zip(run(block, Recurrent, sequences, TIMETABLES[timetable]), sequences, strict=True):
        np.testing.assert_allclose(got, oracle(draw.weights, x), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_half_precision_weights_leave_the_state_in_float32(case):
    block, oracle, draw = CASES[case]()
    halves = {name: mx.array(value, mx.bfloat16) for name, value in draw.weights.items()}
    rounded = {name: np.array(value.astype(mx.float32), np.float64) for name, value in halves.items()}
    params = draw.params()
    params._weights = halves
    memory, x = Recurrent(), draw.values(LENGTHS[0], DIM)
    x = np.array(mx.array(x, mx.bfloat16).astype(mx.float32), np.float64)
    block = type(block)(block.spec, DIM, params)
    y = block(mx.array(x, mx.bfloat16), Pass([(len(x), 0, 4096)]), [memory])
    assert y.dtype == mx.bfloat16
    assert [a.dtype for a in memory.arrays()] == [mx.bfloat16, mx.float32][: len(memory.arrays())]
    want = oracle(rounded, x)
    # measured: 0.5% to 1% of the largest output, from activations rounded to 8 bits; 2.1% by channel, whose decays come
    # through two matrices
    limit = 0.04 if isinstance(block, ChannelDeltaBlock) else 0.02
    assert np.abs(np.array(y.astype(mx.float32)) - want).max() < limit * np.abs(want).max()


def test_a_snapshot_brings_the_sequence_back():
    block, _, draw = delta_case()
    x = mx.array(draw.values(12, DIM), mx.float32)
    memory = Recurrent()

    def step(start, count):
        return np.array(block(x[start : start + count], Pass([(count, start, 4096)]), [memory]))

    step(0, 5)
    saved = memory.snapshot()
    first = step(5, 7)
    memory.restore(saved)
    np.testing.assert_array_equal(step(5, 7), first)
