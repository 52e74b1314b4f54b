"""Every launcher called with the least that its checker takes: inputs of fewer than eight elements are `constant`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import mlx.core as mx
import pytest
from mlxrun.metal_kernels import launch
from mlxrun.metal_kernels.attention import Pages, ScoreRule, paged_attention
from mlxrun.metal_kernels.experts import Rule, experts_in, experts_out, gate_up, route, router_logits
from mlxrun.metal_kernels.glue import HeadNorm, HeadTurn, best_of, greedy, heads, project
from mlxrun.metal_kernels.norms import Normed
from mlxrun.metal_kernels.products import qmm, qmm_experts, qmv, qmv_few
from mlxrun.metal_kernels.tiles import AttentionTile

from ..metal.made import weight
from ..mslsim.wrapper import SMALL
from .addresses import faults, why_not
from .texts import written

F32, U32, I32 = mx.float32, mx.uint32, mx.int32
AFFINE, MXFP4, NVFP4 = ("affine", 4, 32), ("mxfp4", 4, 32), ("nvfp4", 4, 16)


@pytest.fixture(autouse=True)
def _clang() -> None:
    if reason := why_not():
        pytest.skip(reason)


def products() -> None:
    for form, shape in ((AFFINE, (2, 32)), (MXFP4, (2, 32)), (NVFP4, (4, 16))):
        w, x = weight(shape, form, F32), mx.ones((1, shape[1]))
        qmv(x, w)
        qmv(x, w, residual=mx.ones((1, shape[0])))
    w, x = weight((2, 32), AFFINE, F32), mx.ones((1, 32))
    qmv_few(x, w)
    qmm(x, w)
    qmm_experts(x, weight((1, 2, 32), AFFINE, F32), mx.zeros((1,), U32))


def glue() -> None:
    w, rows = weight((8, 32), AFFINE, F32), Normed(mx.ones((1, 32)), mx.ones((32,)), 1e-5)
    project(rows, [w], mx.ones((8,)))
    project(rows, [w])
    greedy(rows.x, w)
    greedy(rows, w)
    best_of(mx.ones((1, 1)), mx.zeros((1, 1), U32))
    for count in (1, 2):
        x, turn = mx.ones((1, 8 * count)), HeadTurn(mx.ones((1,)))
        heads(x, (count, 0, 8), mx.zeros((1,), I32), turn, HeadNorm(mx.ones((8,)), mx.ones((8,)), 1e-5))
        heads(x, (count, 0, 8), mx.zeros((1,), I32), None, None)


def mixtures() -> None:
    for experts in (1, 4, 7):
        logits, bias = mx.ones((1, experts)), mx.ones((experts,))
        for score in ("softmax", "softmax_topk", "sigmoid"):
            route(logits, Rule(1, score))
            route(logits, Rule(1, score, groups=experts, top_groups=1), bias)
    router_logits(Normed(mx.ones((1, 1)), mx.ones((1,)), 1e-5), mx.ones((1, 1)))
    router_logits(Normed(mx.ones((1, 1)), mx.ones((1,)), 1e-5), mx.ones((1, 1)), mx.ones((1,)))
    stack, x, ids = weight((1, 2, 32), AFFINE, F32), mx.ones((1, 32)), mx.zeros((1, 1), U32)
    experts_in(x, ids, stack, stack, "silu")
    experts_in(Normed(x, mx.ones((32,)), 1e-5), ids, stack, stack, "relu", [mx.ones((1, 2))] * 2)
    experts_out(x, ids, mx.ones((1, 1)), stack)
    experts_out(x, ids, mx.ones((1, 1)), stack, mx.ones((1, 2)), mx.ones((1, 2)))
    gate_up(x, weight((2, 32), AFFINE, F32), weight((2, 32), AFFINE, F32), "silu")


def attention() -> None:
    tables, lengths, sinks = mx.zeros((1, 1), U32), mx.ones((1,), I32), mx.ones((1,))
    plain = Pages(mx.ones((1, 1, 1, 8)))
    coded = Pages(mx.zeros((1, 1, 8, 8), U32), mx.ones((1, 1, 8, 1)), mx.ones((1, 1, 8, 1)), 8, 32)
    for blocks in (1, 2):
        for q, k, v in ((8, plain, plain), (8, plain, 1), (32, coded, coded), (32, coded, 1)):
            for sight in (ScoreRule(0.1), ScoreRule(0.1, 1, 2.0, sinks)):
                paged_attention(mx.ones((1, 1, q)), k, v, tables, lengths, sight, AttentionTile(1, 1, blocks))


def small(text: str) -> Iterator[str]:
    yield from re.findall(r"  const constant \w+\* (\w+) \[\[", text)


@pytest.mark.parametrize("calls", [products, glue, mixtures, attention], ids=lambda f: f.__name__)
def test_the_least_that_is_taken(calls: object) -> None:
    with written() as texts:
        calls()  # type: ignore[operator]  # one of the four above
    assert {name: told for name, made in texts.items() if (told := faults(made))} == {}


def test_all_kernels_are_there_and_all_inputs_that_may_be_small_are() -> None:
    with written() as texts:
        for calls in (products, glue, mixtures, attention):
            calls()
    found: dict[str, set[str]] = {}
    for name, made in texts.items():
        bodies = sorted((path.stem for path in launch.FOLDER.glob("*.metal")), key=len)[::-1]
        body = next(b for b in bodies if f"mlxrun_{b}_" in name)
        own = {a.name for a in made.arguments if a.role == "input"}
        found.setdefault(body, set()).update(own & set(small(made.text)))
    assert SMALL == 8
    assert found.keys() == {path.stem for path in launch.FOLDER.glob("*.metal")}
    assert found == {
        "qmv": {"scales", "biases", "residual", "scale"},
        "qmv_few": {"scales", "biases"},
        "qmm": {"scales", "biases", "ids"},
        "project": {"eps"},
        "greedy": {"eps"},
        "best": {"values", "ids"},
        "heads": {"freqs", "positions", "eps"},
        "router": {"logits", "bias", "scale"},
        "router_logits": {"x", "norm", "eps", "w", "added"},
        "experts_in": {
            *("ids", "gate_scales", "gate_biases", "up_scales", "up_biases", "gate_added", "up_added", "eps"),
        },
        "experts_out": {"ids", "weights", "scales", "biases", "added", "residual"},
        "paged_attention": {"tables", "lengths", "sinks", "numbers"},
        "join_blocks": {"parts", "marks"},
    }
