"""(x +) down(act(gate(norm(x))) * up(norm(x))) as one node, against float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, KINDS, Made, array, name_of, weight, wide

ACTS = ["silu", "gelu", "gelu_tanh", "relu", "relu2", "clamped_swiglu"]


def expected(
    x: oracle.Near, gate: Made | None, up: Made, down: Made, act: str, *, residual: bool = False, fast: bool
) -> oracle.Near:
    wide_up = oracle.product(x, up, fast=fast)
    if gate is None:
        hidden = oracle.activation(act, wide_up, None)
    else:
        hidden = oracle.activation(act, oracle.product(x, gate, fast=fast), wide_up)
    return oracle.product(hidden, down, fast=fast)


def made(seed: int, kind: tuple[str, int, int], sizes: tuple[int, int, int]) -> tuple[Made, Made, Made]:
    random = np.random.default_rng(seed)
    inputs, hidden, outputs = sizes
    return (
        weight(random, (hidden, inputs), kind),
        weight(random, (hidden, inputs), kind),
        weight(random, (outputs, hidden), kind),
    )


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations(isa: str, act: str, dtype: str) -> None:
    gate, up, down = made(1, ("affine", 4, 32), (96, 128, 50))
    x, true = array(np.random.default_rng(2).normal(size=(3, 96)) * 8, DTYPES[dtype])
    for precision in (0, 1):
        fast = precision == 1 and native.integer()
        near = expected(oracle.known(true), gate, up, down, act, fast=fast)
        oracle.check(native.feed_forward(x, gate.packed, up.packed, down.packed, act, precision=precision), near)
        if act != "clamped_swiglu":
            near = expected(oracle.known(true), None, up, down, act, fast=fast)
            oracle.check(native.feed_forward(x, None, up.packed, down.packed, act, precision=precision), near)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_kinds_of_weights(isa: str, kind: tuple[str, int, int]) -> None:
    gate, up, down = made(3, kind, (128, 128, 33))
    x, true = array(np.random.default_rng(4).normal(size=(5, 128)) * 0.1, mx.float32)
    for precision in (0, 1):
        near = expected(oracle.known(true), gate, up, down, "silu", fast=precision == 1 and native.integer())
        oracle.check(native.feed_forward(x, gate.packed, up.packed, down.packed, "silu", precision=precision), near)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_and_residual(dtype: str) -> None:
    random = np.random.default_rng(5)
    gate, up, down = made(6, ("affine", 4, 32), (96, 160, 96))
    x, true = array(random.normal(size=(4, 96)) * 30, DTYPES[dtype])
    norm, n = array(random.normal(size=96), mx.bfloat16)
    for precision in (0, 1):
        fast = precision == 1 and native.integer()
        normed = oracle.rms_norm(oracle.known(true), n, 1e-6)
        near = expected(normed, gate, up, down, "silu", fast=fast)
        y = native.feed_forward(x, gate.packed, up.packed, down.packed, "silu", norm, 1e-6, precision=precision)
        oracle.check(y, near)
        y = native.feed_forward(x, gate.packed, up.packed, down.packed, "silu", norm, 1e-6, True, precision)
        oracle.check(y, near + oracle.known(true))


@given(st.data())
@settings(max_examples=40)
def test_any_shape_and_view(data: st.DataObject) -> None:
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 99)))
    assert native.choose_isa(draw(st.sampled_from(native.isas())))
    inputs, hidden, outputs = draw(st.integers(1, 50)), draw(st.integers(1, 70)), draw(st.integers(1, 40))
    gate, up, down = (
        weight(random, shape, draw(st.sampled_from([("f32", 32, 0), ("f16", 16, 0), ("bf16", 16, 0)])))
        for shape in ((hidden, inputs), (hidden, inputs), (outputs, hidden))
    )
    x = mx.array(random.normal(size=(2 * draw(st.integers(0, 5)), 2 * inputs)).astype(np.float32))
    x = x[:: draw(st.sampled_from([1, 2, -1])), :: draw(st.sampled_from([2, -2]))]
    y = native.feed_forward(x, gate.packed, up.packed, down.packed, "gelu_tanh")
    oracle.check(y, expected(oracle.known(wide(x)), gate, up, down, "gelu_tanh", fast=False))


def test_more_rows_than_one_step_takes() -> None:
    """512 rows at a time: the last of one step and the first of the next."""
    gate, up, down = made(7, ("affine", 4, 32), (32, 32, 17))
    x, true = array(np.random.default_rng(8).normal(size=(1030, 32)), mx.float32)
    for precision in (0, 1):
        near = expected(oracle.known(true), gate, up, down, "silu", fast=precision == 1 and native.integer())
        oracle.check(native.feed_forward(x, gate.packed, up.packed, down.packed, "silu", precision=precision), near)


@pytest.mark.parametrize("act", ACTS)
def test_activations_at_the_ends(isa: str, act: str) -> None:
    """A hidden row of one value each, so that the activation alone is seen: no NaN but from NaN."""
    one = native.pack_plain(mx.ones((1, 1)))
    gates = np.array([-3e38, -1e30, -100, -89, -88, -17, -1e-30, -1e-42, 0, 1e-42, 1e-30, 17, 88, 89, 100], np.float32)
    x = mx.array(gates).reshape(-1, 1)
    zero_up = native.pack_plain(mx.zeros((1, 1)))
    if act == "clamped_swiglu":  # up is 0, so the factor is 1
        y = native.feed_forward(x, one, zero_up, one, act, precision=0)
    else:
        y = native.feed_forward(x, None, one, one, act, precision=0)
    near = oracle.activation(
        act, oracle.known(gates.astype(np.float64)), oracle.known(np.zeros(15)) if "clamp" in act else None
    )
    with np.errstate(over="ignore"):
        wanted, bound = near.value, near.error
    got = wide(y).ravel()
    bound = np.where(np.isfinite(bound), bound + 16 * 2.0**-149 + oracle.U * abs(wanted) * 4, 0)
    assert (abs(got - wanted) <= bound).all(), (got, wanted)
    for value in (np.nan, np.inf):
        y = native.feed_forward(mx.array([[value]]), one, zero_up, one, act, precision=0)
        assert np.isnan(wide(y)).all() or act == "clamped_swiglu"
