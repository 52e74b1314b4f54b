"""One device value: what it is here, and that nobody decides anything beside it."""

from __future__ import annotations

import re
from dataclasses import replace

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels import available

from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, a_mac, this_device
from mlxrun.ops.native import native, why_slow
from tests.unit.test_floors import ROOT, sources

DECIDE = {  # who may ask what is best here: where models are opened or planned, and who tells about it
    "mlxrun/cli/doctor.py",
    "mlxrun/cli/eval.py",
    "mlxrun/cli/convert.py",
    "mlxrun/cli/fit.py",
    "mlxrun/cli/tune.py",
    "mlxrun/client/store.py",
    "mlxrun/convert/trial.py",
    "mlxrun/cli/embed.py",
    "mlxrun/cli/fit_machines.py",
    "mlxrun/cli/together.py",
    "mlxrun/loading/open.py",
    "mlxrun/selftest/tuning.py",
    "mlxrun/store/pull.py",
    "mlxrun/tune/__init__.py",
}


def whoever_says(pattern: str) -> set[str]:
    """Files of the product that have it, but for definitions."""
    found = re.compile(rf"(?<!def ){pattern}")
    return {str(file.relative_to(ROOT)) for file in sources() if found.search(file.read_text(encoding="utf-8"))}


def test_only_these_decide() -> None:
    assert whoever_says(r"\bthis_device\(") == DECIDE


def test_nothing_is_set_for_the_whole_process() -> None:
    assert whoever_says(r"\.set_precision\(") == set()
    assert whoever_says(r"\bmade_by\(") == set()  # another maker of Metal kernels is for tests


def test_what_is_not_said_is_what_there_is() -> None:
    found = this_device()
    assert found.native is (available and mx.default_device().type == mx.DeviceType.cpu)
    assert found.gpu is (mx.default_device().type == mx.DeviceType.gpu)
    assert found.precision == (native.precision() if available else "exact")
    assert found.chooser is not this_device().chooser  # two models choose apart
    chooser = Chooser("ours")
    assert this_device("exact", native=False, chooser=chooser) == Device(False, "exact", found.gpu, chooser)


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        (Device(True, "fast", False, Chooser()), mx.float16),
        (Device(True, "exact", False, Chooser()), mx.float32),
        (Device(False, "fast", False, Chooser()), mx.float32),
        (a_mac(), mx.float32),
    ],
)
def test_keys_are_half_as_wide_where_products_are_fast(device: Device, kept: mx.Dtype) -> None:
    assert device.kept(mx.float32) == kept
    assert device.kept(mx.bfloat16) == mx.bfloat16


def test_a_processor_without_our_kernels_is_slow_and_nothing_else_is() -> None:
    slow = replace(this_device(native=False), gpu=False)
    assert "many times slower" in (why_slow(slow) or "")
    for has_kernels, gpu in ((True, False), (False, True), (True, True)):
        assert why_slow(replace(slow, native=has_kernels, gpu=gpu)) is None
