"""Router and experts: against float64, by their bytes, and that a row does not depend on the others."""

from __future__ import annotations

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, gate_up, route
from mlxrun.metal_kernels.tiles import ExpertTile

from ..mslsim import Mode, settings
from .made import BY16, FORMATS, ROUNDING, random, weight, wide

IDS = mx.array([[1, 4], [4, 0], [2, 4], [4, 3], [4, 1]], mx.uint32)  # expert 4 serves five rows: more than go at once


def gated(act: str, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    match act:
        case "silu":
            return gate * sigmoid(gate) * up
        case "gelu":
            return 0.5 * gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2))) * up
        case "gelu_tanh":
            return 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) * up
        case "relu":
            return np.maximum(gate, 0) * up
        case _:
            gate = np.minimum(gate, 7.0)
            return gate * sigmoid(1.702 * gate) * (np.clip(up, -7, 7) + 1)


def small(w):
    """The same with scales that keep sums near one, where activations bend."""
    if w.mode != "affine":
        return w
    return type(w)(w.packed, w.scales / 16, w.biases / 16, w.mode, w.bits, w.group)


def near(got: mx.array, exact: np.ndarray, part: float) -> None:
    assert got.shape == exact.shape
    error = np.abs(wide(got) - exact) / (np.abs(exact) + part * np.abs(exact).max())
    assert error.max() <= 2 * ROUNDING[got.dtype] + 3e-6, error.max()


@pytest.mark.parametrize(
    ("form", "act", "dtype"),
    [
        (FORMATS[1], "silu", mx.bfloat16),
        (FORMATS[0], "gelu_tanh", mx.float16),
        (FORMATS[2], "gelu", mx.float32),
        (FORMATS[3], "relu", mx.bfloat16),
        (FORMATS[4], "clamped_swiglu", mx.bfloat16),
        (FORMATS[5], "silu", mx.float16),
        *((form, "silu", mx.float32) for form in BY16),
    ],
    ids=str,
)
def test_gate_and_up_of_each_pair(form: tuple[str, int, int], act: str, dtype: mx.Dtype) -> None:
    gate, up = small(weight((6, 19, 640), form, dtype)), small(weight((6, 19, 640), form, dtype, seed=2))
    x = random((5, 640), dtype, 3, 0.1)
    added = tuple(random((6, 19), dtype, s) for s in (4, 5)) if act == "clamped_swiglu" else ()
    rows, experts = np.repeat(np.arange(5), 2), np.array(IDS).ravel()
    sums = [np.einsum("pk,pnk->pn", wide(x)[rows], w.exact()[experts]) for w in (gate, up)]
    for i, a in enumerate(added):
        sums[i] += wide(a)[experts]
    exact = gated(act, *sums)
    for order in (0, 2):
        with settings(order=order):
            near(experts_in(x, IDS, gate, up, act, added), exact, 0.2)


@pytest.mark.parametrize("form", [FORMATS[1], FORMATS[4], *BY16], ids=str)
def test_down_and_the_weighted_sum(form: tuple[str, int, int]) -> None:
    down, hidden = weight((6, 21, 320), form, mx.bfloat16), random((10, 320), mx.bfloat16, 3)
    weights, added = mx.softmax(random((5, 2), mx.float32, 6), axis=-1), random((6, 21), mx.bfloat16, 7)
    experts = np.array(IDS).ravel()
    products = np.einsum("pk,pnk->pn", wide(hidden), down.exact()[experts]) + wide(added)[experts]
    exact = (products * wide(weights).reshape(-1, 1)).reshape(5, 2, 21).sum(1)
    for order in (0, 2):
        with settings(order=order):
            near(experts_out(hidden, IDS, weights, down, added), exact, 0.2)


def test_a_row_does_not_depend_on_the_others() -> None:
    form = ("affine", 4, 64)
    gate, up, down = (weight(s, form, mx.bfloat16, n) for n, s in enumerate(((6, 16, 256), (6, 16, 256), (6, 24, 64))))
    x, hidden = random((5, 256), mx.bfloat16, 1), random((10, 64), mx.bfloat16, 2)
    weights = mx.softmax(random((5, 2), mx.float32, 6), axis=-1)
    with settings(Mode.PLAIN):
        inner, outer = experts_in(x, IDS, gate, up, "silu"), experts_out(hidden, IDS, weights, down)
        for t in range(5):
            alone = experts_in(x[t : t + 1], IDS[t : t + 1], gate, up, "silu", tile=ExpertTile(4, 1, True))
            assert mx.array_equal(alone, inner[2 * t : 2 * t + 2])
            alone = experts_out(hidden[2 * t : 2 * t + 2], IDS[t : t + 1], weights[t : t + 1], down)
            assert mx.array_equal(alone[0], outer[t])


def test_an_expert_is_read_once_and_the_others_not_at_all() -> None:
    form = ("affine", 4, 64)
    gate, up, down = (weight(s, form, mx.bfloat16, n) for n, s in enumerate(((6, 32, 256), (6, 32, 256), (6, 32, 256))))
    x, hidden = random((3, 256), mx.bfloat16, 1), random((6, 256), mx.bfloat16, 2)
    ids, used = mx.array([[1, 4], [4, 0], [1, 4]], mx.uint32), 3
    with settings() as launches:
        experts_in(x, ids, gate, up, "silu")
        experts_out(hidden, ids, mx.ones((3, 2)), down)
    assert len(launches) == 2
    first, second = (launch.buffers for launch in launches)
    for name, part in (("w", down.packed), ("scales", down.scales), ("biases", down.biases)):
        unique = part.nbytes // 6 * used
        assert first[f"gate_{name}"].fetched <= 1.02 * unique
        assert first[f"up_{name}"].fetched <= 1.02 * unique
        assert second[name].fetched <= 1.02 * unique
    assert first["gate_w"].asked <= 1.02 * gate.packed.nbytes // 6 * used


def test_a_dense_layer_is_a_mixture_of_one() -> None:
    form = ("affine", 4, 64)
    gate, up = small(weight((33, 576), form, mx.bfloat16)), small(weight((33, 576), form, mx.bfloat16, 2))
    x = random((3, 576), mx.bfloat16, 1, 0.1)
    exact = gated("silu", wide(x) @ gate.exact().T, wide(x) @ up.exact().T)
    with settings() as launches:
        near(gate_up(x, gate, up, "silu"), exact, 0.2)
    assert launches[0].buffers["gate_w"].fetched <= 1.04 * gate.packed.nbytes


RULES = (
    Rule(8, renorm=True),
    Rule(4, score="softmax_topk"),
    Rule(6, score="sigmoid", renorm=True, scale=2.5, groups=8, top_groups=4),
    Rule(1),
)


def routed(logits: np.ndarray, rule: Rule, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The definition, row by row in float64."""
    ids, weights = [], []
    for row in logits:
        e = np.exp(row - row.max())
        score = {"softmax": e / e.sum(), "sigmoid": 1 / (1 + np.exp(-row)), "softmax_topk": row}[rule.score]
        choice = score if bias is None else score + bias
        if rule.groups > 1:
            grouped = choice.reshape(rule.groups, -1)
            strength = np.sort(grouped, axis=1)[:, -2:].sum(1)
            best = np.argsort(-strength, kind="stable")[: rule.top_groups]
            choice = np.where(np.isin(np.arange(rule.groups), best)[:, None], grouped, -np.inf).ravel()
        top = np.argsort(-choice, kind="stable")[: rule.top_k]
        w = score[top]
        if rule.score == "softmax_topk":
            w = np.exp(w - w.max()) / np.exp(w - w.max()).sum()
        ids.append(top)
        weights.append((w / w.sum() if rule.renorm else w) * rule.scale)
    return np.array(ids), np.array(weights)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("experts", [64, 72, 8])
def test_the_router_against_its_definition(rule: Rule, experts: int) -> None:
    rule = replace(rule, top_k=min(rule.top_k, experts // 4))
    if experts == 8:
        rule = replace(rule, groups=1, top_groups=1)
    logits, bias = random((6, experts), mx.float32, 1, 2.0), random((experts,), mx.float32, 2, 0.1)
    for b in (None, bias):
        expected = routed(wide(logits), rule, None if b is None else wide(b))
        with settings(order=2):
            ids, weights = route(logits, rule, b)
        assert (np.array(ids) == expected[0]).all()
        assert np.abs(np.array(weights) - expected[1]).max() < 1e-6


def test_equal_scores_go_to_the_lower_expert() -> None:
    ids, weights = route(mx.zeros((1, 40)), Rule(5, renorm=True))
    assert ids.tolist() == [[0, 1, 2, 3, 4]]
    assert np.abs(np.array(weights) - 0.2).max() < 1e-6
    logits = mx.array([[0.0, 1, 1, 0, 3, 0, 0, 0]])
    assert route(logits, Rule(4))[0].tolist() == [[4, 1, 2, 0]]


def test_more_choices_than_open_experts() -> None:
    """Those that are left come in order, as in the reference."""
    ids, _ = route(mx.arange(8).astype(mx.float32)[None], Rule(4, groups=4, top_groups=1))
    assert ids.tolist() == [[7, 6, 0, 1]]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="No kernel for a router that scores by sparsemixer"):
        route(mx.zeros((1, 8)), Rule(2, score="sparsemixer"))
    with pytest.raises(ValueError, match="top_k = 9"):
        route(mx.zeros((1, 8)), Rule(9))
    w = weight((2, 8, 64), FORMATS[1], mx.float16)
    with pytest.raises(ValueError, match="ids has 2 rows, x has 1"):
        experts_in(mx.zeros((1, 64), mx.float16), mx.zeros((2, 1), mx.uint32), w, w, "silu")
    with pytest.raises(ValueError, match="No kernel for the activation relu2"):
        experts_in(mx.zeros((1, 64), mx.float16), mx.zeros((1, 1), mx.uint32), w, w, "relu2")
