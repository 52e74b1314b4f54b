"""Who is to blame for a pass that broke. Whole engines with kernels that fail are in tests/kernels/metal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from mlxrun.metal_kernels import launch

from mlxrun.core import RequestError
from mlxrun.engine.kernel_guard import KernelGuard
from mlxrun.ops.choose import Chooser
from mlxrun.spec import ModelError

from .fake import FakeModel

FAULT, KERNEL, OTHER = RuntimeError("unlucky\nand more"), ("qmv", 64), ("heads", 32)


class Guarded(KernelGuard):
    """Of a model that computes nothing."""

    def __init__(self) -> None:
        model, self.chooser = FakeModel(), Chooser("ours")
        model.holdings = replace(model.holdings, chooser=self.chooser)  # type: ignore[misc]  # of this one
        super().__init__(model)

    def step(self, *kernels: launch.Pipeline, retrying: bool = False, error: Exception | None = None) -> bool:
        """A pass in which these are launched. Whether it may have been a kernel."""
        self.begin()
        launch.on_this_thread.launched.update(dict.fromkeys(kernels))
        launch.library.ran.update(kernels)
        if error is not None:
            return self.broke(error)
        self.went_well(retrying)
        return False


@pytest.fixture(autouse=True)
def nobody_elses() -> Iterator[None]:
    with launch.made_by(lambda **_: None):
        yield
        launch.on_this_thread.take()


def test_a_pass_without_kernels_is_not_their_fault() -> None:
    guard = Guarded()
    launch.on_this_thread.launched[KERNEL] = None  # between two passes
    assert not guard.step(error=FAULT)
    assert not KernelGuard(FakeModel()).broke(FAULT)


@pytest.mark.parametrize("error", [ModelError("odd"), RequestError("odd")])
def test_what_is_said_of_a_request_or_a_model_is_not_their_fault(error: Exception) -> None:
    assert not Guarded().step(KERNEL, error=error)


def test_the_pass_that_is_read_counts_as_well_as_the_one_that_is_built() -> None:
    guard = Guarded()
    guard.step(KERNEL)
    assert guard.step(error=FAULT)
    guard = Guarded()
    guard.step(KERNEL)
    guard.step()
    assert not guard.step(error=FAULT)


def test_first_all_are_doubted_then_those_of_the_pass_are_tried_by_going_without() -> None:
    guard = Guarded()
    guard.step(KERNEL, OTHER)
    assert guard.step(KERNEL, error=FAULT)
    assert not launch.library.ran
    assert guard.chooser.policy == "ours"
    guard.step(OTHER)
    guard.step(OTHER)
    assert guard.step(KERNEL, error=FAULT)
    assert guard.chooser.policy == "mlx"
    guard.step(retrying=True)
    assert (guard.chooser.policy, launch.library.refused) == ("mlx", {})
    guard.step()
    assert guard.chooser.policy == "ours"
    assert launch.library.refused == {
        KERNEL: "qmv: a pass broke with it and not without: unlucky",
        OTHER: "heads: a pass broke with it and not without: unlucky",
    }


def test_where_it_breaks_without_them_too_they_stay() -> None:
    guard = Guarded()
    assert guard.step(KERNEL, error=FAULT)
    assert guard.step(KERNEL, error=FAULT)
    assert not guard.step(error=FAULT)
    assert (guard.chooser.policy, launch.library.refused) == ("ours", {})
    assert guard.step(KERNEL, error=FAULT)  # the next one is tried at once
    assert guard.chooser.policy == "mlx"
