"""Several sequences at once: the same as each alone, bit for bit; rows land in their own buffer and nowhere else."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlxrun.cpu_kernels import native

from .made import DTYPES

COUNTS = (1, 70, 300, 5)  # the third is cut into parts


def drawn(dtype: mx.Dtype = mx.float16) -> dict[str, Any]:
    mx.random.seed(1)
    each = range(len(COUNTS))
    return {
        "q": mx.random.normal((len(COUNTS), 6, 1, 40)),
        "keys": [mx.random.normal((1, 2, COUNTS[i] + 9, 40)).astype(dtype) for i in each],
        "values": [mx.random.normal((1, 2, COUNTS[i] + 9, 24)).astype(dtype) for i in each],
        "counts": list(COUNTS),
        "scale": 0.2,
    }


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("sinks", [None, mx.array([0.5, -1.0, 0.0, 2.0, 0.1, 3.0])])
def test_each_as_alone(isa: str, dtype: mx.Dtype, sinks: mx.array | None) -> None:
    case = drawn(dtype)
    together = native.attend_each(**case, sinks=sinks)
    for i, count in enumerate(COUNTS):
        k, v = case["keys"][i], case["values"][i]
        alone = native.attention(case["q"][i : i + 1], k, v, 0.2, sinks=sinks, keys=count)
        assert mx.array_equal(together[i], alone.reshape(-1)), i


def test_one_sequence_alone_and_none_at_all() -> None:
    case = drawn()
    k, v = (case[name][1][:, :, :70] for name in ("keys", "values"))  # full to the last position
    found = native.attend_each(case["q"][1:2], [k], [v], [70], 0.2)
    alone = native.attention(case["q"][1:2], k, v, 0.2)
    assert mx.array_equal(found[0], alone.reshape(-1))
    with pytest.raises(ValueError, match="at least one sequence"):
        native.attend_each(case["q"][:0], [], [], [], 0.2)


def test_one_sequence_is_written() -> None:
    rows = mx.arange(3 * 2 * 1 * 4, dtype=mx.float32).reshape(3, 2, 1, 4)
    buffer = np.full((1, 2, 5, 4), -1.0, np.float32)
    found = np.array(native.remember(mx.array(buffer), rows, 3, 2))
    buffer[0, :, 3] = np.array(rows)[2, :, 0]
    np.testing.assert_array_equal(found, buffer)


def test_a_buffer_that_somebody_holds_is_not_written() -> None:
    held = mx.zeros((1, 1, 4, 8))
    mx.eval(held)
    found = native.remember(held, mx.ones((1, 1, 2, 8)), 1)
    mx.eval(found)
    assert held.sum().item() == 0
    assert found[0, 0, :, 0].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("capacity", [8, 256, 257, 300, 512])
@pytest.mark.parametrize("dtype", [mx.float16, mx.float32])
def test_a_copy_holds_all_of_a_buffer_that_is_filled_to_its_end(capacity: int, dtype: mx.Dtype) -> None:
    """Held by somebody else, in order or not, the buffer is copied; else its own memory is written."""
    whole = np.arange(2 * 3 * capacity * 4).reshape(1, 3, capacity, 8) % 997
    rows = mx.array(-np.arange(2 * 3 * 5 * 8).reshape(2, 3, 5, 8)).astype(dtype)
    wanted = whole.copy()
    wanted[0, :, capacity - 5 :] = np.array(rows.astype(mx.float32))[1]
    held = mx.array(whole).astype(dtype)
    turned = mx.array(whole.swapaxes(2, 3)).astype(dtype).swapaxes(2, 3)
    for buffer in (held, turned):
        found = native.remember(buffer, rows, capacity - 5, 1)
        np.testing.assert_array_equal(np.array(found.astype(mx.float32)), wanted)
        np.testing.assert_array_equal(np.array(buffer.astype(mx.float32)), whole)
    found = native.remember(mx.array(whole).astype(dtype) + 0, rows, capacity - 5, 1)
    np.testing.assert_array_equal(np.array(found.astype(mx.float32)), wanted)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"q": mx.zeros((4, 6, 2, 40))}, "q must be"),
        ({"counts": [1, 2]}, "one entry for each sequence"),
        ({"counts": [1, 80, 300, 5]}, "counts must be from 1"),
        ({"counts": [0, 70, 300, 5]}, "counts must be from 1"),
        ({"q": mx.zeros((4, 5, 1, 40))}, "whole number of heads"),
        ({"q": mx.zeros((4, 6, 1, 41))}, "keys must have heads of the size"),
        ({"sinks": mx.zeros(5)}, "sinks must have"),
    ],
)
def test_bad_input(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        native.attend_each(**(drawn() | change))


@pytest.mark.parametrize(("at", "sequence", "told"), [(5, 0, "at must"), (-1, 0, "at must"), (0, 1, "sequence must")])
def test_rows_that_have_no_place(at: int, sequence: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        native.remember(mx.zeros((1, 2, 5, 4)), mx.zeros((1, 2, 1, 4)), at, sequence)
