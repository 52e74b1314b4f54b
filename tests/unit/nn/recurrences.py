"""Recurrent mixers with drawn weights, each beside its recurrence written out row by row in NumPy float64."""

from dataclasses import replace

import numpy as np
from mixing import Draw, causal_conv, causal_conv_silu, rms, sigmoid, silu, softplus

from mlxrun.nn.delta import ChannelDeltaBlock, GatedDeltaBlock
from mlxrun.nn.gated_linear import GatedLinearBlock
from mlxrun.nn.mamba1 import Mamba1Block
from mlxrun.nn.mamba2 import Mamba2Block
from mlxrun.nn.short_conv import ShortConvBlock
from mlxrun.spec import ChannelDelta, GatedDelta, GatedLinear, Mamba1, Mamba2, Norm, ShortConv

DIM = 24
DELTA = GatedDelta(k_heads=2, v_heads=6, k_dim=8, v_dim=12, conv=4, norm=Norm(1e-5))


def delta_case(**other):
    s, draw = replace(DELTA, **other), Draw(1)
    apart = s.apart
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


def channel_delta_case(dim=8, rank=5, floor=None):
    s, draw = ChannelDelta(3, dim, conv=4, rank=rank, norm=Norm(1e-5), floor=floor), Draw(5)
    width = s.heads * s.dim
    draw(q__weight=(width, DIM), k__weight=(width, DIM), v__weight=(width, DIM), conv__weight=(3 * width, s.conv))
    draw(decay__weight=(width, s.rank or DIM), gate__weight=(width, s.rank or DIM), b__weight=(s.heads, DIM))
    draw(o__weight=(DIM, width))
    if rank is not None:
        draw(decay_in__weight=(s.rank, DIM), gate_in__weight=(s.rank, DIM))
    draw(A_log=(s.heads,), dt_bias=(width,))
    draw.around_one(norm__weight=(s.dim,))
    return ChannelDeltaBlock(s, DIM, draw.params()), lambda w, x: channel_delta_oracle(s, w, x), draw


def channel_delta_oracle(s, w, x):
    qkv = np.concatenate([w[f"{n}.weight"] for n in "qkv"])
    q, k, v = np.split(causal_conv_silu(x @ qkv.T, w["conv.weight"]).reshape(len(x), -1, s.dim), 3, axis=1)
    q, k = (t / np.sqrt((t * t).sum(-1, keepdims=True) + 1e-6) for t in (q, k))
    beta = sigmoid(x @ w["b.weight"].T)
    decay_in, gate_in = (w[f"{name}_in.weight"].T if s.rank else np.eye(DIM) for name in ("decay", "gate"))
    steps = (x @ decay_in @ w["decay.weight"].T + w["dt_bias"]).reshape(len(x), s.heads, s.dim)
    rate = np.exp(w["A_log"])[:, None]
    decay = np.exp(-rate * softplus(steps) if s.floor is None else s.floor * sigmoid(rate * steps))
    state, y = np.zeros((s.heads, s.dim, s.dim)), []
    for t in range(len(x)):
        state = state * decay[t][:, None]
        wrong = v[t] - np.einsum("hvk,hk->hv", state, k[t])
        state = state + np.einsum("h,hv,hk->hvk", beta[t], wrong, k[t])
        y.append(np.einsum("hvk,hk->hv", state, q[t]) / np.sqrt(s.dim))
    gate = sigmoid(x @ gate_in @ w["gate.weight"].T)
    return (rms(np.stack(y), w["norm.weight"], 1e-5).reshape(len(x), -1) * gate) @ w["o.weight"].T


def mamba1_case(norm=None, bias=False, conv_bias=True, inner=20, state=6, conv=3):
    s = Mamba1(inner, state, dt_rank=3, conv=conv, norm=norm, bias=bias, conv_bias=conv_bias)
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


def mamba2_case(groups=1, norm_groups=1, dt_min=0.0, dt_max=float("inf"), bias=False, **other):
    plain = Mamba2(6, 8, groups, 5, 4, Norm(1e-5), norm_groups, dt_min, dt_max, bias=bias)
    s = replace(plain, **other)
    inner = s.heads * s.head_dim
    channels = inner + 2 * groups * s.state
    draw = Draw(3)
    draw(inp__weight=(inner + channels + s.heads, DIM), o__weight=(DIM, inner), conv__weight=(channels, s.conv))
    draw(conv__bias=(channels,), A_log=(s.heads,), D=(s.heads,), dt_bias=(s.heads,))
    draw.around_one(norm__weight=(inner,))
    if bias:
        draw(inp__bias=(inner + channels + s.heads,), o__bias=(DIM,))
    if s.norm is None:
        del draw.weights["norm.weight"]
    return Mamba2Block(s, DIM, draw.params()), lambda w, x: mamba2_oracle(s, w, x), draw


def mamba2_oracle(s, w, x):
    inner, shared = s.heads * s.head_dim, s.groups * s.state
    projected = x @ w["inp.weight"].T + w.get("inp.bias", 0)
    if s.scales is not None:
        projected = projected * np.repeat(s.scales, [inner, inner, shared, shared, s.heads])
    gate, u, dt = np.split(projected, [inner, 2 * inner + 2 * shared], axis=-1)
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

    def normed(y):
        if s.norm is None:
            return y
        return rms(y.reshape(len(x), s.norm_groups, -1), 1.0, 1e-5).reshape(len(x), inner) * w["norm.weight"]

    y = np.stack(y).reshape(len(x), inner)
    y = normed(y) * silu(gate) if s.norm_first else normed(y * silu(gate))
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


def gated_linear_case(heads=2, width=20, conv=4):
    s, draw = GatedLinear(width, heads, conv), Draw(6)
    each = width // heads
    draw(x__weight=(width, DIM), gate__weight=(width, DIM), o__weight=(DIM, width), conv__weight=(width, conv))
    draw(x__bias=(width,), gate__bias=(width,), o__bias=(DIM,), conv__bias=(width,), decay=(width,))
    for name in ("input_gate", "decay_gate"):
        draw(**{f"{name}__weight": (heads, each, each), f"{name}__bias": (width,)})
    return GatedLinearBlock(s, DIM, draw.params()), lambda w, x: gated_linear_oracle(s, w, x), draw


def gated_linear_oracle(s, w, x):
    u = causal_conv(x @ w["x.weight"].T + w["x.bias"], w["conv.weight"]) + w["conv.bias"]

    def gate(name):
        made = np.einsum("thi,hij->thj", u.reshape(len(x), s.heads, -1), w[f"{name}_gate.weight"])
        return sigmoid(made.reshape(len(x), -1) + w[f"{name}_gate.bias"])

    log_decay = -8 * softplus(w["decay"]) * gate("decay")
    rows, state, y = u * gate("input"), np.zeros(s.width), []
    for t in range(len(x)):
        state = np.exp(log_decay[t]) * state + rows[t] * (np.sqrt(1 - np.exp(2 * log_decay[t])) if t else 1)
        y.append(state)
    g = x @ w["gate.weight"].T + w["gate.bias"]
    gelu = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))
    return (gelu * np.stack(y)) @ w["o.weight"].T + w["o.bias"]


CASES = {
    "short convolution": lambda: short_conv_case(False),
    "short convolution, biases": lambda: short_conv_case(True),
    "delta": delta_case,
    "delta, olmo": lambda: delta_case(apart=True, strength=2.0),
    "delta by channel": channel_delta_case,
    "delta by channel, a floor": lambda: channel_delta_case(rank=None, floor=-5.0),
    "gated linear": gated_linear_case,
    "mamba1": mamba1_case,
    "mamba1, jamba": lambda: mamba1_case(Norm(1e-5), conv_bias=False),
    "mamba1, falcon": lambda: mamba1_case(Norm(1e-5, weight=False), bias=True),
    "mamba2": mamba2_case,
    "mamba2, nemotron": lambda: mamba2_case(groups=3, norm_groups=3, dt_min=0.6, bias=True),
    "mamba2, both limits": lambda: mamba2_case(groups=2, dt_min=0.3, dt_max=0.8),
    "mamba2, falcon h1": lambda: mamba2_case(2, scales=(0.7, 1.3, 0.5, 1.6, 0.8), norm_first=True, norm_groups=3),
    "mamba2, the gate alone": lambda: mamba2_case(norm=None, conv=2),
}
# states of whole registers and a bit more, heads of more than one block, odd convolutions
WIDE = {
    "delta": lambda: delta_case(k_dim=32, v_dim=37, conv=2),
    "delta, equal heads": lambda: delta_case(k_heads=3, v_heads=3, k_dim=33, v_dim=16, conv=5),
    "delta by channel": lambda: channel_delta_case(dim=48),
    "gated linear": lambda: gated_linear_case(3, 99, 2),
    "mamba1": lambda: mamba1_case(inner=133, state=16, conv=4),
    "mamba1, long state": lambda: mamba1_case(Norm(1e-5), inner=48, state=37, conv=2),
    "mamba2": lambda: mamba2_case(groups=2, norm_groups=2, heads=4, head_dim=21, state=32),
    "mamba2, long state": lambda: mamba2_case(heads=2, head_dim=16, state=47, conv=3),
}
