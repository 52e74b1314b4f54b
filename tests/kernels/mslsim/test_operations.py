"""Operations are counted as often as they ran, not as often as they stand there."""

from __future__ import annotations

from collections import Counter

import mlx.core as mx
import pytest

from . import Mode, metal_kernel, operations, settings


@pytest.fixture(autouse=True)
def _gnu() -> None:
    if reason := operations.why_not():
        pytest.skip(reason)


PLACE = "uint g = thread_position_in_grid.x; "


def counts(body: str, *inputs: mx.array, threads: int = 64, dtype: mx.Dtype = mx.float32) -> Counter[str]:
    kernel = metal_kernel("counted", [f"x{i}" for i in range(len(inputs))], ["y"], PLACE + body)
    with settings(Mode.COUNTED) as launches:
        kernel(
            inputs=list(inputs),
            grid=(threads, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[(threads,)],
            output_dtypes=[dtype],
        )
    return launches[0].operations


def test_a_loop_counts_as_often_as_it_goes() -> None:
    body = "float s = 0; for (int k = 0; k < x0_shape[0]; k++) s += x0[k] * float(x1[k]); y[g] = simd_sum(s);"
    for length in (24, 40):
        found = counts(body, mx.ones((length,)), mx.ones((length,), mx.int32))
        assert (found["fma"], found["convert"], found["simd_sum"]) == (64 * length, 64 * length, 64)
        assert found["add"] == found["shift"] == 0  # what the simulator adds for a sum is not the kernel's


def test_a_branch_counts_where_it_was_taken() -> None:
    found = counts("if (g < 10) y[g] = metal::exp(x0[g]); else y[g] = x0[g] * x0[g];", mx.ones((64,)))
    assert (found["special"], found["multiply"], found["compare"]) == (10, 54, 64)


def test_kinds_are_told_apart() -> None:
    codes = mx.ones((64,), mx.uint32)
    found = counts("y[g] = float((x0[g] >> 3 & 7u) * x0[g]) / float(x1[g]);", codes, mx.ones((64,), mx.bfloat16))
    wanted = {"shift": 64, "integer": 64, "integer multiply": 64, "convert": 64, "widen": 64, "divide": 64}
    assert {kind: found[kind] for kind in wanted} == wanted


def test_private_arrays_stay_in_registers() -> None:
    body = "float v[16]; for (int i = 0; i < 16; i++) v[i] = x0[i]; float s = 0; " + (
        "for (int i = 0; i < 16; i++) s += v[i] * v[15 - i]; y[g] = s;"
    )
    found = counts(body, mx.ones((16,)))
    assert (found["store"], found["load"]) == (64, 64 * 16)
    assert found["fma"] + found["multiply"] == 64 * 16
