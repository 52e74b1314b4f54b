"""The experts of a layer as one node, against each row's experts one by one in float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, KINDS, Made, array, name_of, weight, wide

EXPERTS, INPUTS, HIDDEN, OUTPUTS = 6, 128, 128, 33


def stacks(seed: int, kind: tuple[str, int, int]) -> tuple[Made, Made, Made]:
    random = np.random.default_rng(seed)
    return (
        weight(random, (EXPERTS, HIDDEN, INPUTS), kind),
        weight(random, (EXPERTS, HIDDEN, INPUTS), kind),
        weight(random, (EXPERTS, OUTPUTS, HIDDEN), kind),
    )


def one(stack: Made, expert: int) -> Made:
    return Made(stack.packed, stack.value[expert], stack.gross[expert], stack.integers)


def biased(product: oracle.Near, bias: np.ndarray | None) -> oracle.Near:
    return product if bias is None else product + oracle.known(np.broadcast_to(bias, product.value.shape))


def expected(
    true: np.ndarray,
    ids: np.ndarray,
    share: np.ndarray,
    matrices: tuple[Made | None, Made, Made],
    biases: tuple[np.ndarray | None, ...] = (None, None, None),
    act: str = "silu",
    *,
    fast: bool,
) -> oracle.Near:
    gate, up, down = matrices
    rows = []
    for row, experts, weights in zip(true, ids, share, strict=True):
        total = oracle.known(np.zeros((1, OUTPUTS)))
        for e, w in zip(experts, weights, strict=True):
            x = oracle.known(row[None])
            g, u, d = (None if b is None else b[e] for b in biases)
            hidden = biased(oracle.product(x, one(up, e), fast=fast), u)
            if gate is None:
                hidden = oracle.activation(act, hidden, None)
            else:
                hidden = oracle.activation(act, biased(oracle.product(x, one(gate, e), fast=fast), g), hidden)
            answer = biased(oracle.product(hidden, one(down, e), fast=fast), d)
            total = total + answer * oracle.known(np.full((1, OUTPUTS), w))
        rows.append(total)
    return oracle.Near(np.concatenate([r.value for r in rows]), np.concatenate([r.error for r in rows]))


def drawn(seed: int, rows: int, choices: int, dtype: mx.Dtype = mx.float32) -> tuple:
    random = np.random.default_rng(seed)
    x, true = array(random.normal(size=(rows, INPUTS)) * 0.3, dtype)
    ids = np.stack([random.permutation(EXPERTS)[:choices] for _ in range(rows)]) if rows else np.zeros((0, choices))
    weights, share = array(random.uniform(0.1, 1, size=(rows, choices)), mx.float32)
    return x, true, ids.astype(np.int32), weights, share


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_kinds_of_weights(isa: str, kind: tuple[str, int, int]) -> None:
    gate, up, down = stacks(1, kind)
    x, true, ids, weights, share = drawn(2, 5, 2)
    for precision in (0, 1):
        fast = precision == 1 and native.integer()
        found = native.experts(
            x, mx.array(ids), weights, gate.packed, up.packed, down.packed, "silu", precision=precision
        )
        oracle.check(found, expected(true, ids, share, (gate, up, down), fast=fast), str(precision))


@pytest.mark.parametrize("precision", [0, 1])
@pytest.mark.parametrize(("kind", "hidden"), [(("affine", 4, 16), 48), (("bf16", 16, 0), 40), (("bf16", 16, 0), 33)])
def test_hidden_sizes_that_are_no_whole_blocks(kind: tuple[str, int, int], hidden: int, precision: int) -> None:
    """What a call before left behind in the memory, here NaN in whole blocks, does not count."""
    random = np.random.default_rng(22)

    def made(hidden: int) -> tuple[Made, ...]:
        shapes = (hidden, INPUTS), (hidden, INPUTS), (OUTPUTS, hidden)
        return tuple(weight(random, (EXPERTS, *shape), kind) for shape in shapes)

    matrices = made(hidden)
    x, true, ids, weights, share = drawn(23, 9, 2)
    fast = precision == 1 and native.integer()
    for rows, layer in ((x * mx.nan, made(64)), (x, matrices)):
        packed = (m.packed for m in layer)
        found = native.experts(rows, mx.array(ids), weights, *packed, "silu", precision=precision)
        mx.eval(found)
    oracle.check(found, expected(true, ids, share, matrices, fast=fast))


def test_of_zeros_comes_exactly_zero() -> None:
    packed = (m.packed for m in stacks(24, ("affine", 4, 32)))
    _, _, ids, weights, _ = drawn(25, 3, 2)
    found = native.experts(mx.zeros((3, INPUTS)), mx.array(ids), weights, *packed, "silu", precision=0)
    assert (wide(found) == 0).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 40, 300])
def test_rows_few_and_many(rows: int) -> None:
    """Of one expert's rows there are more than one block at the end."""
    gate, up, down = stacks(3, ("affine", 4, 32))
    x, true, ids, weights, share = drawn(4, rows, 3)
    found = native.experts(x, mx.array(ids), weights, gate.packed, up.packed, down.packed, "silu", precision=0)
    if rows == 0:
        assert found.shape == (0, OUTPUTS)
        return
    oracle.check(found, expected(true, ids, share, (gate, up, down), fast=False))


@pytest.mark.parametrize("dtype", DTYPES)
def test_biases_and_residual(dtype: str) -> None:
    """As GPT-OSS has them."""
    random = np.random.default_rng(5)
    matrices = stacks(6, ("mxfp4", 4, 32))
    gate, up, down = matrices
    x, true, ids, weights, share = drawn(7, 4, 2, DTYPES[dtype])
    made = [array(random.normal(size=(EXPERTS, n)), mx.float32) for n in (HIDDEN, HIDDEN, OUTPUTS)]
    residual, r = array(random.normal(size=(4, OUTPUTS)), mx.float32)
    near = expected(true, ids, share, matrices, tuple(b for _, b in made), "clamped_swiglu", fast=False)
    packed = gate.packed, up.packed, down.packed
    biases = [b for b, _ in made]
    found = native.experts(x, mx.array(ids), weights, *packed, "clamped_swiglu", *biases, None, 0)
    oracle.check(found, near)
    found = native.experts(x, mx.array(ids), weights, *packed, "clamped_swiglu", *biases, residual, 0)
    oracle.check(found, near + oracle.known(r))


def test_without_a_gate() -> None:
    _, up, down = stacks(8, ("affine", 8, 64))
    x, true, ids, weights, share = drawn(9, 6, 2)
    found = native.experts(x, mx.array(ids), weights, None, up.packed, down.packed, "relu2", precision=0)
    oracle.check(found, expected(true, ids, share, (None, up, down), act="relu2", fast=False))


def test_an_expert_that_a_row_names_twice_counts_twice() -> None:
    matrices = stacks(20, ("affine", 4, 32))
    x, true, _, weights, share = drawn(21, 3, 3)
    ids = np.array([[2, 2, 1], [0, 5, 0], [4, 4, 4]], np.int32)
    found = native.experts(x, mx.array(ids), weights, *(m.packed for m in matrices), "silu", precision=0)
    oracle.check(found, expected(true, ids, share, matrices, fast=False))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    gate, up, down = (made.packed for made in stacks(10, ("affine", 4, 64)))
    x, _, ids, weights, _ = drawn(11, 500, 2)  # of one expert's rows there are more than one block
    together = native.experts(x, mx.array(ids), weights, gate, up, down, "silu")
    for row in (0, 33, 380, 499):
        at = slice(row, row + 1)
        alone = native.experts(x[at], mx.array(ids[at]), weights[at], gate, up, down, "silu")
        assert mx.array_equal(alone, together[at])


def test_an_expert_that_is_not_there_spoils_its_row_alone() -> None:
    gate, up, down = (made.packed for made in stacks(12, ("affine", 4, 32)))
    x, _, ids, weights, _ = drawn(13, 4, 2)
    right = wide(native.experts(x, mx.array(ids), weights, gate, up, down, "silu"))
    for bad in (-1, EXPERTS, 2**31 - 1):
        ids[2, 1] = bad
        found = wide(native.experts(x, mx.array(ids), weights, gate, up, down, "silu"))
        assert np.isnan(found[2]).all()
        np.testing.assert_array_equal(np.delete(found, 2, 0), np.delete(right, 2, 0))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": mx.zeros((2, 3, 4))}, "x must have 2 axes"),
        ({"ids": mx.zeros((4, 2))}, "ids must be int32"),
        ({"ids": mx.zeros((3, 2), mx.int32)}, "ids must be int32"),
        ({"weights": mx.zeros((4, 3))}, "weights must be float32"),
        ({"act": "tanh"}, "act must be"),
        ({"up_bias": mx.zeros((EXPERTS, 3))}, "bias of up has the wrong shape"),
        ({"residual": mx.zeros((4, 3))}, "residual has the wrong shape"),
        ({"gate": None, "act": "clamped_swiglu"}, "clamped_swiglu needs a gate"),
    ],
)
def test_bad_input(change: dict, told: str) -> None:
    gate, up, down = (made.packed for made in stacks(14, ("affine", 4, 32)))
    x, _, ids, weights, _ = drawn(15, 4, 2)
    good = {"x": x, "ids": mx.array(ids), "weights": weights, "gate": gate, "up": up, "down": down, "act": "silu"}
    with pytest.raises(ValueError, match=told):
        native.experts(**(good | change))


def test_stacks_that_do_not_go_together() -> None:
    gate, up, down = (made.packed for made in stacks(16, ("affine", 4, 32)))
    x, _, ids, weights, _ = drawn(17, 4, 2)
    fewer = weight(np.random.default_rng(18), (EXPERTS - 1, OUTPUTS, HIDDEN), ("affine", 4, 32)).packed
    with pytest.raises(ValueError, match="down must be a stack"):
        native.experts(x, mx.array(ids), weights, gate, up, fewer, "silu")
    with pytest.raises(ValueError, match="gate must be a stack"):
        native.experts(x, mx.array(ids), weights, down, up, down, "silu")
