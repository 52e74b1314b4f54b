"""What the self-test tries on a Mac, tried in the simulator: some of its cases pass, and a broken text is seen."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun.selftest import kernels, metal_cases
from mlxrun.selftest.truth import KernelCase
from tests.selftest.heard import notes_of

from .proofs import changed

LAYOUT = ("affine", 4, 64)
BFLOAT16 = mx.bfloat16


def some() -> list[KernelCase]:
    made = [*metal_cases.vectors(LAYOUT, BFLOAT16), *metal_cases.of_heads(BFLOAT16)]
    return [*made[:1], *made[-3:], *list(metal_cases.of_routers(mx.float32))[1:2]]


def test_cases_are_right() -> None:
    said, heard, notes = notes_of(lambda n: kernels.told(n, "simulated", iter(some()), timed=True))
    assert not notes.bad
    assert said == "simulated: 5 cases, 0 kernels wrong"
    assert all(check["compile_ms"] >= 0 for check in heard.checks)


@pytest.mark.parametrize(("kernel", "old", "new"), [("qmv", "simd_sum(", "simd_max("), ("heads", "cos(", "sin(")])
def test_a_broken_text_is_seen(kernel: str, old: str, new: str) -> None:
    cases = [case for case in some() if case.name.startswith(kernel) and case.twin is None][:1]
    with changed(old, new) as found:
        _, _, notes = notes_of(lambda n: kernels.told(n, "simulated", iter(cases)))
    assert any(found)
    assert notes.bad
