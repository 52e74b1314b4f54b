"""Attention inside segments: against float64, and to the bit what each segment gives by itself."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from . import oracle
from .made import DTYPES, array, wide
from .test_attention import Case, expected

COUNTS = [1, 70, 3, 64, 200, 17]


def drawn(counts: list[int], heads: int, groups: int, dim: int, v_dim: int, dtype: str = "f32", kv: str = "f32") -> Any:
    """Rows of heads, one of several sequences: (T, heads, 1, size)."""
    random = np.random.default_rng(sum(counts))
    of = lambda heads, size, kind: array(  # noqa: E731 short
        random.normal(size=(sum(counts), heads, 1, size)), DTYPES[kind]
    )[0]
    return of(heads, dim, dtype), of(groups, dim, kv), of(groups, v_dim, kv)


def of_one(x: mx.array, start: int, count: int) -> mx.array:
    return x[start : start + count].transpose(2, 1, 0, 3)


def near(count: int, seen: int, window: int) -> Any:
    apart = abs(np.arange(count)[:, None] - np.arange(seen))
    return mx.array(apart <= window)


def alone(q: mx.array, k: mx.array, v: mx.array, scale: float, counts: list[int], **how: Any) -> list[mx.array]:
    """By the kernel for one call, with a mask where there is a window."""
    found, start, window = [], 0, how.pop("window", -1)
    for count in counts:
        mask = None if window < 0 else near(count, count, window)
        three = [of_one(x, start, count) for x in (q, k, v)]
        y = native.attention(*three, scale, mask, **how)
        found.append(y.transpose(0, 2, 1, 3).reshape(count, -1))
        start += count
    return found


@pytest.mark.parametrize("shape", [(4, 4, 32, 32), (6, 2, 64, 64), (3, 1, 24, 40), (12, 12, 80, 16)])
@pytest.mark.parametrize("how", [{}, {"window": 5}, {"window": 64}, {"softcap": 3.0}, {"window": 0}], ids=str)
def test_each_segment_has_the_bits_that_it_has_alone(isa: str, shape: Any, how: dict[str, Any]) -> None:
    q, k, v = drawn(COUNTS, *shape)
    together = native.attend_segments(q, k, v, COUNTS, 0.3, **how)
    for got, want in zip(
        np.split(wide(together), np.cumsum(COUNTS)[:-1]), alone(q, k, v, 0.3, COUNTS, **how), strict=True
    ):
        assert np.array_equal(got, wide(want))


@pytest.mark.parametrize("counts", [[1, 1, 1], [300], [2000, 5], [5] * 40])
def test_many_short_ones_and_one_long_one(counts: list[int]) -> None:
    q, k, v = drawn(counts, 2, 1, 16, 16)
    together = wide(native.attend_segments(q, k, v, counts, 0.25))
    assert np.array_equal(together, np.concatenate([wide(y) for y in alone(q, k, v, 0.25, counts)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv", DTYPES)
@pytest.mark.parametrize("window", [-1, 9])
def test_against_float64(isa: str, dtype: str, kv: str, window: int) -> None:
    q, k, v = drawn(COUNTS, 4, 2, 32, 24, dtype, kv)
    sinks = array(np.random.default_rng(3).normal(size=4) * 3, mx.float32)[0]
    found, start = native.attend_segments(q, k, v, COUNTS, 32**-0.5, window=window, sinks=sinks), 0
    assert found.dtype == DTYPES[dtype]
    for count in COUNTS:
        how = {"sinks": sinks} | ({} if window < 0 else {"mask": near(count, count, window)})
        case = Case(heads=4, groups=2, queries=count, keys=count, dim=32, v_dim=24, dtype=dtype, kv=kv, how=how)
        three = [of_one(x, start, count) for x in (q, k, v)]
        got = found[start : start + count].reshape(1, count, 4, 24).transpose(0, 2, 1, 3)
        oracle.check(got, expected(case, *three, 32**-0.5), f"segment of {count}")
        start += count


@pytest.mark.parametrize("far", [0, 1, 7, 400])
def test_what_distance_adds(isa: str, far: int) -> None:
    q, k, v = drawn(COUNTS, 4, 2, 32, 32)
    apart, _ = array(np.random.default_rng(far).normal(size=(4, 2 * far + 1)), mx.float32)
    found, start = native.attend_segments(q, k, v, COUNTS, 0.2, apart=apart), 0
    for count in COUNTS:
        ahead = np.clip(np.arange(count) - np.arange(count)[:, None], -far, far) + far
        added = mx.array(np.array(apart)[:, ahead][None])
        want = native.attention(*[of_one(x, start, count) for x in (q, k, v)], 0.2, added)
        got = wide(found[start : start + count]).reshape(1, count, 4, 32).transpose(0, 2, 1, 3)
        assert np.array_equal(got, wide(want))
        start += count


@pytest.mark.parametrize("window", [-1, 2])
def test_rows_that_nobody_looks_at(isa: str, window: int) -> None:
    """They look themselves; one that sees nothing has no number, or 0 beside a sink."""
    counts, seen = [9, 70, 5], [4, 66, 5]
    q, k, v = drawn(counts, 4, 4, 16, 16)
    sinks = mx.full((4,), -1e30)
    found, start = wide(native.attend_segments(q, k, v, counts, 0.3, window=window, seen=seen, sinks=sinks)), 0
    for count, most in zip(counts, seen, strict=True):
        mask = near(count, most, window if window >= 0 else count)
        three = [of_one(x, start, count)[:, :, :rows] for x, rows in ((q, count), (k, most), (v, most))]
        want = wide(native.attention(*three, 0.3, mask, sinks=sinks)).transpose(0, 2, 1, 3).reshape(count, -1)
        assert np.array_equal(found[start : start + count], want)
        start += count
    if window >= 0:
        assert (found[7:9] == 0).all()


def test_rows_of_one_sequence_and_rows_that_do_not_lie_in_order() -> None:
    q, k, v = drawn(COUNTS, 4, 2, 32, 32)
    want = native.attend_segments(q, k, v, COUNTS, 0.3)
    for turn in (lambda x: x.transpose(2, 1, 0, 3), lambda x: mx.repeat(x, 2, axis=3)[..., ::2]):
        assert mx.array_equal(native.attend_segments(*map(turn, (q, k, v)), COUNTS, 0.3), want)
    for threads in (1, 3):
        native.set_threads(threads)
        assert mx.array_equal(native.attend_segments(q, k, v, COUNTS, 0.3), want)


ROWS = mx.ones((6, 2, 1, 4))


@pytest.mark.parametrize(
    ("name", "three", "counts", "how"),
    [
        ("counts", (ROWS, ROWS, ROWS), [6, 0], {}),
        ("counts", (ROWS, ROWS, ROWS), [7, -1], {}),
        ("segment", (ROWS, ROWS, ROWS), [], {}),
        ("q", (ROWS[:5], ROWS, ROWS), [2, 4], {}),
        ("k", (ROWS, ROWS[:5], ROWS), [2, 4], {}),
        ("v", (ROWS, ROWS, ROWS[:5]), [2, 4], {}),
        ("v", (ROWS, ROWS, ROWS[:, :1]), [2, 4], {}),
        ("q", (ROWS, ROWS, ROWS), [2**31 - 1, 2**31 - 1, 8], {}),
        ("4 axes", (ROWS[..., 0], ROWS, ROWS), [2, 4], {}),
        ("heads", (ROWS[:, :1], ROWS, ROWS), [2, 4], {}),
        ("size", (ROWS, ROWS[..., :3], ROWS), [2, 4], {}),
        ("type", (ROWS, ROWS.astype(mx.float16), ROWS), [2, 4], {}),
        ("rows", (mx.ones((3, 2, 2, 4)),) * 3, [2, 4], {}),
        ("softcap", (ROWS, ROWS, ROWS), [2, 4], {"softcap": -1.0}),
        ("sinks", (ROWS, ROWS, ROWS), [2, 4], {"sinks": mx.ones(3)}),
        ("apart", (ROWS, ROWS, ROWS), [2, 4], {"apart": mx.ones((2, 4))}),
        ("apart", (ROWS, ROWS, ROWS), [2, 4], {"apart": mx.ones((1, 3))}),
        ("apart", (ROWS, ROWS, ROWS), [2, 4], {"apart": mx.ones(3)}),
        ("apart", (ROWS, ROWS, ROWS), [2, 4], {"apart": mx.ones((2, 3), mx.int32)}),
        ("seen", (ROWS, ROWS, ROWS), [2, 4], {"seen": [2]}),
        ("seen", (ROWS, ROWS, ROWS), [2, 4], {"seen": [2, 5]}),
        ("seen", (ROWS, ROWS, ROWS), [2, 4], {"seen": [0, 4]}),
    ],
)
def test_what_is_wrong_is_named(name: str, three: Any, counts: list[int], how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=name):
        native.attend_segments(*three, counts, 1.0, **how)
