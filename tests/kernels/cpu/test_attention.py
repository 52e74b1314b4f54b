"""Softmax attention against float64: grouped heads, windows, masks, sinks, soft caps, all lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, array, wide

U = oracle.U


@dataclass
class Case:
    """Shapes and what goes with them; `how` is passed on to the kernel."""

    batch: int = 1
    heads: int = 4
    groups: int = 2
    queries: int = 3
    keys: int = 7
    dim: int = 64
    v_dim: int = 64
    dtype: str = "f32"
    kv: str = "f32"
    how: dict[str, Any] = field(default_factory=dict)

    def draw(self, seed: int = 0) -> tuple[mx.array, mx.array, mx.array]:
        random = np.random.default_rng(seed)
        of = lambda heads, count, size, dtype: array(  # noqa: E731 short
            random.normal(size=(self.batch, heads, count, size)), DTYPES[dtype]
        )[0]
        return (
            of(self.heads, self.queries, self.dim, self.dtype),
            of(self.groups, self.keys, self.dim, self.kv),
            of(self.groups, self.keys, self.v_dim, self.kv),
        )


def seen_by(case: Case, keys: int) -> np.ndarray:
    """(queries, keys): the last query sees the last key."""
    key, query = np.arange(keys), np.arange(case.queries)[:, None] + keys - case.queries
    window = case.how.get("window", 0)
    return (key <= query) & ((key > query - window) if window else True)


def expected(case: Case, q: mx.array, k: mx.array, v: mx.array, scale: float) -> oracle.Near:
    """Scores have the rounding errors of their sum; a score off by e makes a weight off by the share e."""
    keys = case.how.get("keys", case.keys)
    share = case.heads // case.groups
    a, b, c = wide(q), np.repeat(wide(k)[:, :, :keys], share, 1), np.repeat(wide(v)[:, :, :keys], share, 1)
    scores = a @ b.swapaxes(-1, -2) * scale
    error = (case.dim + 4) * U * (abs(a) @ abs(b).swapaxes(-1, -2)) * abs(scale)
    if cap := case.how.get("softcap", 0.0):
        scores = cap * np.tanh(scores / cap)
        error = error + 16 * U * cap
    mask = case.how.get("mask")
    if case.how.get("causal"):
        scores = np.where(seen_by(case, keys), scores, -np.inf)
    elif mask is not None and mask.dtype == mx.bool_:
        scores = np.where(np.array(mask), scores, -np.inf)
    elif mask is not None:
        with np.errstate(invalid="ignore"):
            scores = scores + wide(mask)
        error = error + U * np.where(np.isfinite(scores), abs(scores), 0)
    sinks = case.how.get("sinks")
    sink = np.full((1, case.heads, 1, 1), -np.inf) if sinks is None else wide(sinks).reshape(1, -1, 1, 1)
    top = np.maximum(scores.max(axis=-1, keepdims=True), sink)
    weights = np.exp(scores - top)
    below = weights.sum(axis=-1, keepdims=True) + np.exp(sink - top)
    # e^x: 4 roundings and those of x - top; then K sums above and below, in at most K / 64 + 64 steps each
    off = error.max(axis=-1, keepdims=True) + U * np.where(np.isfinite(scores), abs(scores - top), 0).max(
        -1, keepdims=True
    )
    relative = 2 * off + (keys + keys / 64 + 64 + 16) * 2 * U
    return oracle.Near(weights @ c / below, relative * (weights @ abs(c) / below) + oracle.TINY)


def run(case: Case, seed: int = 0) -> None:
    q, k, v = case.draw(seed)
    scale = case.dim**-0.5
    found = native.attention(q, k, v, scale, **case.how)
    assert found.dtype == q.dtype
    oracle.check(found, expected(case, q, k, v, scale), str(case))


@pytest.mark.parametrize(
    "size", [(64, 64), (80, 80), (96, 96), (128, 128), (256, 256), (576, 512), (192, 128), (72, 40)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_head_sizes_and_types(isa: str, size: tuple[int, int], dtype: str) -> None:
    run(Case(keys=70, dim=size[0], v_dim=size[1], dtype=dtype, kv=dtype))
    run(Case(keys=5, queries=1, dim=size[0], v_dim=size[1], dtype="f32", kv=dtype, how={"causal": True}))


@pytest.mark.parametrize("heads", [(1, 1), (9, 3), (8, 1), (16, 16), (14, 2)])
@pytest.mark.parametrize("queries", [1, 2, 5, 33])
def test_grouped_heads(isa: str, heads: tuple[int, int], queries: int) -> None:
    for keys in (queries, queries + 31):
        run(Case(heads=heads[0], groups=heads[1], queries=queries, keys=keys, dim=32, v_dim=32, how={"causal": True}))


# chunks of 64 keys, parts of 256, and the largest number of parts
@pytest.mark.parametrize("keys", [1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 512, 1000, 20000])
@pytest.mark.parametrize(
    "how", [{}, {"causal": True}, {"causal": True, "window": 100}], ids=["all", "causal", "window"]
)
def test_numbers_of_keys(keys: int, how: dict[str, Any]) -> None:
    run(Case(heads=2, groups=1, queries=1, keys=keys, dim=16, v_dim=16, how=how))


@pytest.mark.parametrize("window", [1, 2, 63, 64, 65, 100, 1000])
def test_windows(isa: str, window: int) -> None:
    run(Case(queries=100, keys=130, dim=16, v_dim=16, how={"causal": True, "window": window}))


@pytest.mark.parametrize(
    "shape", [(1, 4, 3, 70), (3, 70), (70,), (1, 1, 3, 70), (4, 1, 1), (1, 1, 1, 1), (2, 1, 3, 70)]
)
@pytest.mark.parametrize("kind", ["bool", "f32", "f16", "bf16"])
def test_masks(shape: tuple[int, ...], kind: str) -> None:
    random = np.random.default_rng(1)
    if kind == "bool":
        mask = mx.array((random.random(shape) < 0.8) | (shape[-1] == 1))
    else:
        mask = array(random.normal(size=shape) * 4, DTYPES[kind])[0]
    run(Case(batch=2, keys=70, dim=16, v_dim=16, how={"mask": mask}))


def test_masks_that_do_not_lie_in_order() -> None:
    random = np.random.default_rng(2)
    for mask in (mx.array(random.random((70, 6)) < 0.5)[:, ::2].T, mx.array(random.normal(size=(3, 140)))[:, ::-2]):
        run(Case(keys=70, dim=16, v_dim=16, how={"mask": mask.astype(mx.float32) if mask.dtype != mx.bool_ else mask}))


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("queries", [1, 40])
def test_sinks_and_soft_caps(isa: str, kind: str, queries: int) -> None:
    sinks = array(np.random.default_rng(3).normal(size=4) * 5, DTYPES[kind])[0]
    for how in ({"sinks": sinks}, {"softcap": 5.0}, {"softcap": 30.0, "sinks": sinks, "causal": True, "window": 50}):
        run(Case(queries=queries, keys=300, dim=16, v_dim=16, how=how))


@pytest.mark.parametrize("keys", [0, 1, 7, 64])
def test_only_the_first_keys_count(keys: int) -> None:
    """The rest of a buffer may hold anything, NaN too."""
    case = Case(queries=min(keys, 1), keys=64, dim=16, v_dim=16, how={"keys": keys, "causal": True})
    q, k, v = case.draw()
    hole = mx.arange(64).reshape(1, 1, 64, 1) < keys
    k, v = mx.where(hole, k, mx.nan), mx.where(hole, v, mx.nan)
    found = native.attention(q, k, v, 0.25, **case.how)
    if keys:
        oracle.check(found, expected(case, q, k, v, 0.25))
    else:
        assert found.shape == (1, 4, 0, 16)


def test_no_keys_at_all(isa: str) -> None:
    """0 keys are none, not all: a softmax over nothing is no number, and a sink takes all the weight."""
    q, k, v = Case(queries=3, keys=64, dim=16, v_dim=16).draw()
    for none in ({"keys": 0}, {"keys": 0, "mask": mx.zeros((3, 1))}):
        assert np.isnan(wide(native.attention(q, k, v, 0.25, **none))).all()
        assert (wide(native.attention(q, k, v, 0.25, sinks=mx.zeros(4), **none)) == 0).all()


LARGE = 2.0**24  # 1 more is lost beside it, 2 more are not


def sum_beside_large(heads: int, keys: int, small: float, batch: int = 1) -> set[float]:
    """What the sum of all values is more than the first, which is large. All weights are 1 before they are divided."""
    q, k = mx.zeros((batch, heads, 1, 16)), mx.zeros((batch, 1, keys, 16))
    v = mx.full((batch, 1, keys, 16), small)
    v[:, :, 0] = LARGE
    return set((wide(native.attention(q, k, v, 1.0)) * keys - LARGE).flat)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 12])
def test_rows_are_summed_in_order_whatever_their_number(isa: str, rows: int) -> None:
    """What is small is lost beside the large one that came first."""
    assert sum_beside_large(rows, 64, 1.0) == {0.0}


@pytest.mark.parametrize(("pieces", "parts"), [(1, 16), (15, 16), (16, 1)])
def test_keys_are_summed_in_parts_of_256(isa: str, pieces: int, parts: int) -> None:
    """So that several threads share them, where there are fewer than 16 pieces without: chunks are too small to be
    seen beside the large one, parts are not."""
    assert sum_beside_large(1, 4096, 2.0**-7, pieces) == {(parts - 1) * 256 * 2.0**-7}


def test_inputs_that_do_not_lie_in_order() -> None:
    """Rows of a projection seen as heads, slices of a buffer, turned axes, one key head for all."""
    random = np.random.default_rng(4)
    case = Case(queries=5, keys=20, dim=32, v_dim=32)
    rows = mx.array(random.normal(size=(5, 4 * 32)).astype(np.float32))
    buffer = mx.array(random.normal(size=(1, 2, 64, 32)).astype(np.float32))
    turned = mx.array(random.normal(size=(1, 2, 32, 20)).astype(np.float32)).swapaxes(-1, -2)
    cases = {
        "rows as heads": (rows.reshape(1, 5, 4, 32).swapaxes(1, 2), buffer[:, :, 3:23], buffer[:, :, 40:60]),
        "turned": (rows.reshape(1, 32, 5, 4).transpose(0, 3, 2, 1), turned, turned),
        "backwards": (rows.reshape(1, 4, 5, 32)[..., ::-1], buffer[:, ::-1, 22:2:-1], buffer[:, :, ::3][:, :, :20]),
        "one for all": (
            mx.broadcast_to(rows.reshape(1, 4, 5, 32)[:, :1], (1, 4, 5, 32)),
            mx.broadcast_to(buffer[:, :1, :20], (1, 2, 20, 32)),
            mx.broadcast_to(buffer[:, :, :1], (1, 2, 20, 32)),
        ),
    }
    for name, (q, k, v) in cases.items():
        oracle.check(native.attention(q, k, v, 0.2), expected(case, q, k, v, 0.2), name)


@given(st.data())
@settings(max_examples=60)
def test_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    assert native.choose_isa(draw(st.sampled_from(native.isas())))
    groups, share = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    queries = draw(st.integers(0, 40))
    case = Case(
        draw(st.integers(1, 2)), groups * share, groups, queries, queries + draw(st.integers(queries == 0, 90)),
        draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.sampled_from(list(DTYPES))),
        draw(st.sampled_from(list(DTYPES))),
    )  # fmt: skip
    if draw(st.booleans()):
        case.how = {"causal": True, "window": draw(st.integers(0, 70))}
    run(case, draw(st.integers(0, 99)))


def test_a_query_that_sees_nothing_is_no_number() -> None:
    """As softmax over nothing is; with a sink all weight is there, so the result is 0. Others are untouched."""
    case = Case(queries=2, keys=300, dim=16, v_dim=16)
    q, k, v = case.draw()
    mask = mx.array(np.array([[False] * 300, [True] * 300]))
    y = wide(native.attention(q, k, v, 0.25, mask))
    assert np.isnan(y[:, :, 0]).all()
    oracle.check(native.attention(q, k, v, 0.25, mask)[:, :, 1:], _rows(expected(case, q, k, v, 0.25), 1))
    y = wide(native.attention(q, k, v, 0.25, mask, sinks=mx.zeros(4)))
    assert (y[:, :, 0] == 0).all()


def _rows(near: oracle.Near, start: int) -> oracle.Near:
    return oracle.Near(near.value[:, :, start:], near.error[:, :, start:])


@pytest.mark.parametrize("keys", [20, 600])
def test_infinities_and_nan(isa: str, keys: int) -> None:
    """NaN in a query stays in its row, in a key reaches who sees it, in a value reaches its own column.

    A value that a query does not see has weight 0, and 0 * NaN is NaN: so says the product of weights and values.
    """
    case = Case(heads=2, groups=2, queries=4, keys=keys, dim=16, v_dim=16, how={"causal": True})
    q, k, v = (np.array(a) for a in case.draw())
    clean = wide(native.attention(mx.array(q), mx.array(k), mx.array(v), 0.25, causal=True))

    def changed(which: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
        before = which[at].copy()
        which[at] = value
        found = wide(native.attention(mx.array(q), mx.array(k), mx.array(v), 0.25, causal=True))
        which[at] = before
        return found

    y = changed(q, (0, 0, 2, 3), np.nan)
    assert np.isnan(y[0, 0, 2]).all()
    assert np.array_equal(np.delete(y[0, 0], 2, 0), np.delete(clean[0, 0], 2, 0))
    assert np.array_equal(y[0, 1], clean[0, 1])
    y = changed(k, (0, 1, keys - 2, 3), np.nan)  # the last two queries see it
    assert np.isnan(y[0, 1, 2:]).all()
    assert np.array_equal(y[0, 1, :2], clean[0, 1, :2])
    assert np.array_equal(y[0, 0], clean[0, 0])
    y = changed(v, (0, 1, keys - 2, 3), np.nan)
    assert np.isnan(y[0, 1, 2:, 3]).all()
    assert np.array_equal(np.delete(y[0, 1], 3, 1), np.delete(clean[0, 1], 3, 1))
    assert np.array_equal(y[0, 0], clean[0, 0])
    y = changed(v, (0, 1, keys - 1, 3), np.inf)
    assert np.isposinf(y[0, 1, 3, 3])
    assert np.array_equal(np.delete(y[0, 1], 3, 1), np.delete(clean[0, 1], 3, 1))


def test_a_piece_does_not_look_at_keys_that_none_of_its_rows_sees(isa: str) -> None:
    """96 rows: a number that is none behind what they see does not reach them, not even with weight 0."""
    q, k, v = (np.array(a) for a in Case(heads=1, groups=1, queries=200, keys=200, dim=16, v_dim=16).draw())
    clean = native.attention(*map(mx.array, (q, k, v)), 0.25, causal=True)
    k[:, :, 96], v[:, :, 97:] = np.nan, np.nan
    assert mx.array_equal(native.attention(*map(mx.array, (q, k, v)), 0.25, causal=True)[:, :, :96], clean[:, :, :96])


def test_what_has_no_weight_does_not_count_however_large(isa: str) -> None:
    """e^-200 is 0 in float32, before the key that takes all the weight and after it."""
    for place in (0, 100, 199):
        k, v = mx.zeros((1, 1, 200, 16)), mx.full((1, 1, 200, 16), 1e36)
        k[:, :, place], v[:, :, place] = 200 / 16, 1e-30
        y = native.attention(mx.ones((1, 1, 1, 16)), k, v, 1.0)
        assert mx.array_equal(y, v[:, :, place : place + 1])


def test_scores_far_apart(isa: str) -> None:
    """A score 1000 above all others takes everything; 1e30 does not overflow."""
    q = mx.ones((1, 1, 1, 16))
    for size in (1e3, 1e30):
        k = mx.zeros((1, 1, 300, 16))
        k[0, 0, 123] = size
        v = mx.array(np.random.default_rng(5).normal(size=(1, 1, 300, 16)).astype(np.float32))
        y = native.attention(q, k, v, 1.0)
        assert mx.array_equal(y[0, 0, 0], v[0, 0, 123])


@pytest.mark.parametrize(("below", "counts"), [(60.0, True), (75.0, False), (95.0, False), (1e4, False)])
def test_a_share_too_small_to_matter_is_nothing(isa: str, below: float, counts: bool) -> None:
    """Not a subnormal number, which would make all that is computed with it many times as slow."""
    scores = np.zeros(70, np.float32)
    scores[0], scores[1] = below, 0.0
    scores[2:] = -1e6
    q, k = np.ones((1, 1, 1, 1), np.float32), scores.reshape(1, 1, 70, 1)
    v = np.zeros((1, 1, 70, 1), np.float32)
    v[0, 0, 1] = 1e34
    y = float(wide(native.attention(mx.array(q), mx.array(k), mx.array(v), 1.0)).item())
    assert (y > 0) is counts
    if counts:
        np.testing.assert_allclose(y, 1e34 * np.exp(-below), rtol=1e-3)
