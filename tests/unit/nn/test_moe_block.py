"""Mixtures of experts against a loop over rows and choices, and with weights whose answer is plain to see."""

import mlx.core as mx
import numpy as np
import pytest
from mixing import Draw, rms, sigmoid, silu, softmax

from mlxrun.nn.moe import DenseAndExpertsBlock, MoEBlock
from mlxrun.nn.params import Params
from mlxrun.ops.device import this_device
from mlxrun.spec import Dense, DenseAndExperts, ModelError, MoE, Norm, Router

DIM, EXPERTS, HIDDEN = 16, 8, 12


def clamped(gate, up):
    gate, up = np.minimum(gate, 7.0), np.clip(up, -7.0, 7.0)
    return gate * sigmoid(1.702 * gate) * (up + 1)


ACTS = {
    "silu": lambda g, u: silu(g) * u,
    "clamped_swiglu": clamped,
    "gelu_tanh": lambda g, u: 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * u,
}


def expert(w, prefix, e, x, act, gated):
    up = w[f"{prefix}up.weight"][e] @ x + w.get(f"{prefix}up.bias", np.zeros((EXPERTS, 1)))[e]
    if gated:
        gate = w[f"{prefix}gate.weight"][e] @ x + w.get(f"{prefix}gate.bias", np.zeros((EXPERTS, 1)))[e]
        hidden = ACTS[act](gate, up)
    else:
        hidden = np.maximum(up, 0) ** 2
    return w[f"{prefix}down.weight"][e] @ hidden + w.get(f"{prefix}down.bias", np.zeros((EXPERTS, 1)))[e]


def dense(w, prefix, x, act="silu", gated=True):
    one = {name: value[None] for name, value in w.items() if name.startswith(prefix)}
    return np.stack([expert(one, prefix, 0, row, act, gated) for row in x])


def draw_experts(draw, s, width, prefix=""):
    shapes = {"router__weight": (s.experts, DIM), "experts__up__weight": (s.experts, s.hidden, width)}
    shapes["experts__down__weight"] = (s.experts, width, s.hidden)
    if s.gated:
        shapes["experts__gate__weight"] = (s.experts, s.hidden, width)
    if s.bias:
        shapes |= {f"experts__{n}__bias": (s.experts, s.hidden) for n in ("gate", "up")}
        shapes["experts__down__bias"] = (s.experts, width)
    if s.router.bias:
        shapes["router__bias"] = (s.experts,)
    if s.shared:
        shapes |= {
            f"shared__{n}__weight": (s.shared.hidden, DIM) for n in (("gate", "up") if s.shared.gated else ("up",))
        }
        shapes["shared__down__weight"] = (DIM, s.shared.hidden)
    if s.shared_gate:
        shapes["shared_gate__weight"] = (1, DIM)
    if s.latent:
        shapes |= {"latent_in__weight": (width, DIM), "latent_out__weight": (DIM, width)}
    draw(**{prefix + name: shape for name, shape in shapes.items()})


def chosen_of(logits, s):
    """Softmax of the two best: every router of these tests but the sigmoid one."""
    ids = np.argsort(-logits, kind="stable")[: s.top_k]
    if s.score == "sigmoid":
        return ids, sigmoid(logits[ids]) * s.scale
    return ids, softmax(logits[ids])


CASES = {
    "gated": MoE(EXPERTS, HIDDEN, Router(2, "softmax", renorm=True)),
    "biased, clamped": MoE(EXPERTS, HIDDEN, Router(2, "softmax_topk", bias=True), "clamped_swiglu", bias=True),
    "ungated": MoE(EXPERTS, HIDDEN, Router(3, "sigmoid", scale=2.5), "relu2", False, shared=Dense(20, "relu2", False)),
    "shared": MoE(EXPERTS, HIDDEN, Router(2, "softmax_topk"), shared=Dense(20)),
    "shared with gate": MoE(EXPERTS, HIDDEN, Router(2, "softmax_topk"), shared=Dense(20), shared_gate=True),
    "scaled input": MoE(EXPERTS, HIDDEN, Router(1, "sigmoid"), shared=Dense(20), scale_input=True),
    "latent": MoE(EXPERTS, HIDDEN, Router(2, "sigmoid"), "relu2", False, shared=Dense(9, "relu2", False), latent=6),
}


def oracle(w, s, x, routed_by=None):
    rows = []
    for row, routed in zip(x, x if routed_by is None else routed_by, strict=True):
        ids, weights = chosen_of(w["router.weight"] @ routed + w.get("router.bias", 0), s.router)
        inner = w["latent_in.weight"] @ row if s.latent else row
        y = 0
        for e, weight in zip(ids, weights, strict=True):
            if s.scale_input:
                y = y + expert(w, "experts.", e, inner * weight, s.act, s.gated)
            else:
                y = y + weight * expert(w, "experts.", e, inner, s.act, s.gated)
        rows.append(w["latent_out.weight"] @ y if s.latent else y)
    y = np.stack(rows)
    if s.shared:
        extra = dense(w, "shared.", x, s.shared.act, s.shared.gated)
        y = y + (extra * sigmoid(x @ w["shared_gate.weight"].T) if s.shared_gate else extra)
    return y


@pytest.mark.parametrize("count", [1, 3, 70])  # few rows, and so many that they are laid out by expert
@pytest.mark.parametrize("case", CASES)
def test_against_a_loop(case, count):
    s, draw = CASES[case], Draw(7)
    draw_experts(draw, s, s.latent or DIM)
    params = draw.params()
    block = MoEBlock(s, DIM, params)
    assert params.leftovers() == []
    x = draw.values(count, DIM, scale=3.0)
    got = block(mx.array(x, mx.float32))
    np.testing.assert_allclose(np.array(got), oracle(draw.weights, s, x), atol=5e-5)


@pytest.mark.parametrize("count", [2, 70])
def test_dense_and_experts_side_by_side(count):
    """Gemma 4: both read the residual; the router norms it without a weight, then scales it."""
    norm = Norm(1e-6)
    moe = MoE(
        EXPERTS, HIDDEN, Router(2, "softmax", True, norm=Norm(1e-3, weight=False), expert_scale=True), "gelu_tanh"
    )
    draw = Draw(8)
    draw(dense__gate__weight=(20, DIM), dense__up__weight=(20, DIM), dense__down__weight=(DIM, 20))
    draw_experts(draw, moe, DIM, "moe__")
    draw.around_one(dense_norm__weight=(DIM,), dense_post__weight=(DIM,), experts_norm__weight=(DIM,))
    draw.around_one(experts_post__weight=(DIM,), moe__router_scale=(DIM,), moe__expert_scale=(EXPERTS,))
    params = draw.params()
    block = DenseAndExpertsBlock(DenseAndExperts(Dense(20, "gelu_tanh"), moe, norm), DIM, params)
    assert params.leftovers() == []
    x, w = draw.values(count, DIM, scale=0.05), draw.weights

    own = {name.removeprefix("moe."): value for name, value in w.items() if name.startswith("moe.")}
    routed = rms(x, own["router_scale"], 1e-3) * DIM**-0.5
    scaled = own | {"experts.down.weight": own["experts.down.weight"] * own["expert_scale"][:, None, None]}
    experts = oracle(scaled, moe, rms(x, w["experts_norm.weight"]), routed)
    beside = dense(w, "dense.", rms(x, w["dense_norm.weight"]), "gelu_tanh")
    want = rms(beside, w["dense_post.weight"]) + rms(experts, w["experts_post.weight"])
    np.testing.assert_allclose(np.array(block(mx.array(x, mx.float32))), want, atol=5e-5)


def test_by_hand():
    """Expert e multiplies by e + 1; the router's logits are the row itself, so the two largest entries choose."""
    eye = mx.eye(4)
    stack = mx.stack([eye * (e + 1) for e in range(4)])
    weights = {
        "router.weight": eye,
        "experts.up.weight": mx.stack([eye] * 4),
        "experts.down.weight": stack,
    }
    block = MoEBlock(MoE(4, 4, Router(2, "softmax_topk"), "relu", gated=False), 4, Params(weights, this_device()))
    y = np.array(block(mx.array([[0.0, 5.0, 0.0, 5.0], [9.0, 0.0, 9.0, 0.0]])))
    np.testing.assert_allclose(y, [[0, 15, 0, 15], [18, 0, 18, 0]], rtol=1e-6)  # (2 + 4) / 2 and (1 + 3) / 2


def test_router_is_float32_in_a_half_precision_model():
    """Logits 64 and 64.125 are one number in bfloat16: the second expert must win all the same."""
    weights = {
        "router.weight": mx.array([[64.0, 0.0], [64.0, 0.125]], mx.bfloat16),
        "experts.up.weight": mx.array([[[1.0, 0.0]], [[1.0, 0.0]]], mx.bfloat16),
        "experts.down.weight": mx.array([[[1.0], [0.0]], [[0.0], [1.0]]], mx.bfloat16),
    }
    block = MoEBlock(MoE(2, 1, Router(1, "softmax_topk"), "relu", gated=False), 2, Params(weights, this_device()))
    y = block(mx.array([[1.0, 1.0]], mx.bfloat16))
    assert y.dtype == mx.bfloat16
    assert y.tolist() == [[0.0, 1.0]]


def test_a_wrong_stack_is_named():
    s, draw = CASES["gated"], Draw(7)
    draw_experts(draw, s, DIM)
    draw.weights["experts.down.weight"] = draw.weights["experts.down.weight"].swapaxes(-1, -2)
    with pytest.raises(
        ModelError, match=r"experts\.down\.weight has shape \(8, 12, 16\); this model needs \(8, 16, 12\)"
    ):
        MoEBlock(s, DIM, draw.params())
