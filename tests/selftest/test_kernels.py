"""The part that compares kernels: what is right passes, and what is wrong, not a number or refused is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import this_device
from mlxrun.ops.native import native
from mlxrun.selftest import cpu_cases, kernels, metal_cases, truth, tuning
from mlxrun.selftest.made import Dimensions
from mlxrun.selftest.results import NotRun
from mlxrun.selftest.truth import KernelCase, beyond, weight, wide

from .heard import check_of, notes_of

LAYOUTS = sorted({*cpu_cases.LAYOUTS, *metal_cases.LAYOUTS})
only_native = pytest.mark.skipif(native is None, reason="there are no native CPU kernels here")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_drawn_weights_mean_what_mlx_says(layout: truth.Layout) -> None:
    made, value = weight((6, 256), layout, mx.float32)
    found = wide(made.dequantize(mx.float32))
    np.testing.assert_allclose(found, value, rtol=2e-6, atol=1e-6)
    assert len(np.unique(value)) > 3


def test_every_layout_of_ours_is_tried() -> None:
    from mlxrun.metal_kernels.check import FLOATS, SERVED
    from mlxrun.metal_kernels.tiles import CUTS

    assert set(metal_cases.LAYOUTS) == SERVED
    assert set(metal_cases.TYPES) == set(FLOATS)
    assert {metal_cases.cut(number) for number in range(4)} == set(CUTS.values())


def test_every_metal_text_is_tried() -> None:
    """By their files: a kernel that is new must get a case."""
    from mlxrun.metal_kernels import launch

    asked: set[str] = set()

    def make(**definition: object) -> Callable[..., list[mx.array]]:
        asked.add(str(definition["name"]).removeprefix("mlxrun_"))
        return lambda *, output_shapes, output_dtypes, **_: [
            mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]

    with launch.made_by(make):
        for case in metal_cases.cases([("affine", 4, 64)], [mx.float32]):
            mx.eval(case.call())
    assert asked == {file.stem for file in launch.FOLDER.glob("*.metal")}


def case(call: Callable[[], mx.array], name: str = "one") -> KernelCase:
    return KernelCase(name, call, lambda: (np.array([1.0, 2.0]), 0.0))


@pytest.mark.parametrize(
    ("found", "good"),
    [
        ([1.0, 2.0], True),
        ([1.0, 2.00001], False),
        ([1.0, float("nan")], False),
        ([1.0, float("inf")], False),
        ([1.0], False),
    ],
)
def test_what_is_wrong_is_seen(found: list[float], good: bool) -> None:
    said, heard, notes = notes_of(lambda n: kernels.told(n, "here", iter([case(lambda: mx.array(found))])))
    assert check_of(heard, "here: one")["good"] is good
    assert bool(notes.bad) is not good
    assert said == f"here: 1 cases, {0 if good else 1} kernels wrong"


def test_what_is_allowed_follows_the_type() -> None:
    exact = np.array([1.0, 2.0])
    assert beyond(mx.array([1.0, 2.0]).astype(mx.float16), exact, 0.0, 1.0) == 0
    assert 0.9 < beyond(mx.array([1.0, 2.0 + 2**-10]).astype(mx.float32), exact, 0.0, 512.0) < 1.1
    assert beyond(mx.array([1.0, 2.015]).astype(mx.bfloat16), exact, 0.0, 4.0) < 1
    assert beyond(mx.array([1.0, 2.1]).astype(mx.bfloat16), exact, 0.0, 4.0) > 1


def test_bits_that_must_be_equal_and_are_not() -> None:
    def twins(other: float) -> KernelCase:
        return KernelCase("bits", lambda: mx.array([1.0]), lambda: (np.ones(1), 0.0), twin=lambda: mx.array([other]))

    for other, good in ((1.0, True), (1.0 + 2**-23, False)):
        _, heard, _ = notes_of(lambda n, other=other: kernels.told(n, "here", iter([twins(other)])))
        assert check_of(heard, "here: bits")["good"] is good


def test_a_kernel_that_is_refused_tells_why_and_the_next_one_runs() -> None:
    def refused() -> mx.array:
        raise RuntimeError("error: too many threads\nand much more")

    _, heard, notes = notes_of(
        lambda n: kernels.told(n, "here", iter([case(refused), case(lambda: mx.array([1.0, 2.0]), "next")]))
    )
    assert notes.bad == ["here: one: error: too many threads"]
    assert check_of(heard, "here: next")["good"]
    assert heard.begun == "here: next"


def test_what_there_is_no_time_for_is_told_and_is_no_fault() -> None:
    def endless() -> Iterator[KernelCase]:
        while True:
            yield case(lambda: mx.array([1.0, 2.0]))

    said, _, notes = notes_of(lambda n: kernels.told(n, "here", endless()), seconds=kernels.SPARE + 0.05)
    assert not notes.bad
    assert said.endswith("no time for the rest")


@only_native
def test_a_broken_cpu_kernel_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    true = native.matmul
    monkeypatch.setattr(native, "matmul", lambda *given, **how: true(*given, **how) * 1.02)
    _, _, notes = notes_of(lambda n: kernels.told(n, "cpu", cpu_cases.cases([("affine", 4, 32)], [mx.float32])))
    assert {one.split(" of the allowed")[0].rsplit(": ", 1)[0] for one in notes.bad} == {
        "cpu: matmul affine-4-32 float32 exact",
        "cpu: matmul affine-4-32 float32 fast",
    }


@only_native
def test_every_cpu_layout_is_right_and_the_instruction_set_is_as_before() -> None:
    before = native.isa()
    _, _, notes = notes_of(lambda n: " ".join(kernels.on_cpu(n)), quick=False)
    assert not notes.bad
    assert native.isa() == before


def test_with_no_kernels_at_all_it_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chooser, "possible", lambda self: False)
    monkeypatch.setattr(kernels, "available", False)
    with pytest.raises(NotRun, match="no kernels of ours here"):
        notes_of(kernels.compare)


@pytest.fixture
def metal_that_computes_nothing() -> Iterator[None]:
    """Every kernel runs at once and gives zeros."""
    from mlxrun.metal_kernels import launch

    def make(**_: object) -> Callable[..., list[mx.array]]:
        return lambda *, output_shapes, output_dtypes, **_: [
            mx.zeros(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]

    with launch.made_by(make):
        yield


@pytest.mark.usefixtures("metal_that_computes_nothing")
def test_where_there_is_metal_its_kernels_are_tried_and_timed() -> None:
    said, heard, notes = notes_of(kernels.compare)
    assert said.startswith("Metal: ")
    assert notes.bad[0].startswith("Metal: qmv affine-4-64 bfloat16: ")
    assert check_of(heard, "Metal: qmv affine-4-64 bfloat16")["compile_ms"] >= 0
    assert {name.split()[-2] for check in heard.checks if "qmv_few" in (name := check["name"])} == {
        "-".join(map(str, layout)) for layout in kernels.QUICK_METAL
    }
    said, _, notes = notes_of(kernels.compare_validated)
    assert said.startswith("Metal, validated: ")
    assert notes.bad


@pytest.mark.usefixtures("metal_that_computes_nothing")
def test_where_there_is_metal_kernels_are_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "this_device", partial(this_device, native=False))
    monkeypatch.setattr(tuning, "Dimensions", partial(Dimensions, dim=256, hidden=64))
    said, heard, notes = notes_of(tuning.choose, seconds=2.0)
    assert not notes.bad
    assert "shapes measured" in said
    assert heard.numbers["picks"]
    assert not list(tmp_path.iterdir())  # nothing is kept


def test_without_metal_nothing_is_chosen_or_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chooser, "possible", lambda self: False)
    for part in (tuning.choose, kernels.compare_validated):
        with pytest.raises(NotRun):
            notes_of(part)
