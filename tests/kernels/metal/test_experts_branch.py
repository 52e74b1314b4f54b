"""A mixture as a layer has it, norm and residual around it: in the kernels' launches as in single operations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.nn.moe import MoEBlock
from mlxrun.nn.norm import NormBlock
from mlxrun.nn.params import Params
from mlxrun.nn.whole_metal import experts_branch
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import this_device
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.spec import Dense, MoE, Norm, Router

from ..mslsim import Mode, settings
from .made import random, wide

DIM, HIDDEN, EXPERTS = 64, 96, 8
MLX, OURS = this_device("exact"), this_device("exact", chooser=Chooser("ours"))
PLAIN = MoE(EXPERTS, HIDDEN, Router(2, renorm=True))
SHARED = replace(PLAIN, shared=Dense(HIDDEN))
CASES = {
    "router quantized": (PLAIN, True, {"project": 1, "experts_in": 1}),
    "router plain": (PLAIN, False, {"router_logits": 1, "experts_in": 1}),
    "biases": (
        replace(PLAIN, router=Router(2, "softmax_topk", bias=True), act="clamped_swiglu", bias=True),
        False,
        {"router_logits": 1, "experts_in": 1},
    ),
    "biases, router quantized": (replace(PLAIN, router=Router(2, bias=True)), True, {"project": 1, "experts_in": 1}),
    "groups": (
        replace(SHARED, router=Router(2, "sigmoid", True, 2.5, select_bias=True, groups=4, top_groups=2)),
        False,
        {"router_logits": 1, "experts_in": 2, "qmv": 1},
    ),
    "shared with a gate": (
        replace(SHARED, shared_gate=True),
        False,
        {"router_logits": 1, "experts_in": 1, "qmv": 3},  # what has a gate stays single operations
    ),
}


def weights_of(spec: MoE, quantized_router: bool) -> dict[str, Weight]:
    found: dict[str, Weight] = {}

    def matrix(name: str, *shape: int, quantized: bool = True) -> None:
        full = random(shape, mx.float32, len(found), shape[-1] ** -0.5)
        found[f"{name}.weight"] = QuantizedWeight(*mx.quantize(full, 32, 4), "affine", 4, 32) if quantized else full

    def bias(name: str, *shape: int) -> None:
        found[name] = random(shape, mx.float32, len(found), 0.3)

    matrix("router", EXPERTS, DIM, quantized=quantized_router)
    for name, shape in (("gate", (HIDDEN, DIM)), ("up", (HIDDEN, DIM)), ("down", (DIM, HIDDEN))):
        matrix(f"experts.{name}", EXPERTS, *shape)
        if spec.bias:
            bias(f"experts.{name}.bias", EXPERTS, shape[0])
        if spec.shared:
            matrix(f"shared.{name}", *shape)
    if spec.router.bias:
        bias("router.bias", EXPERTS)
    if spec.router.select_bias:
        bias("select_bias", EXPERTS)
    if spec.shared_gate:
        matrix("shared_gate", 1, DIM, quantized=False)
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_mixture_in_its_launches_is_what_its_operations_give(case: str) -> None:
    spec, quantized_router, launched = CASES[case]
    x, weight = random((3, DIM), mx.float32, 51), random((DIM,), mx.float32, 50) + 1
    norm = NormBlock(Norm(1e-5), MLX, weight)
    expected = x + MoEBlock(spec, DIM, Params(weights_of(spec, quantized_router), MLX))(norm(x))
    block = MoEBlock(spec, DIM, Params(weights_of(spec, quantized_router), OURS))
    branch = experts_branch(block, NormBlock(Norm(1e-5), OURS, weight))
    assert branch is not None
    with settings(Mode.PLAIN) as launches:
        found = branch(x)
    names = Counter(one.name.removeprefix("mlxrun_") for one in launches)
    assert {name: names[name] for name in launched} == launched
    assert names["router"] == names["experts_out"] == 1
    assert np.abs(wide(found) - wide(expected)).max() < 1e-5 * np.abs(wide(expected)).max()
