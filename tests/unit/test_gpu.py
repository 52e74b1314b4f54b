"""What MLX's GPU is asked: on this machine, and on Macs that are not here."""

from __future__ import annotations

import re

import mlx.core as mx
import pytest

from mlxrun import gpu
from tests.macs import MACS, NO_DEVICE, FakeMLX, become
from tests.unit.test_floors import ROOT, sources

ASKS = re.compile(r"\bmx\.(metal\.is_available|device_info|default_device|set_default_device|is_available)\(")


def test_nobody_else_asks_mlx() -> None:
    assert {str(file.relative_to(ROOT)) for file in sources() if ASKS.search(file.read_text(encoding="utf-8"))} == {
        "mlxrun/gpu.py"
    }


def test_every_mac_is_told_of_and_nothing_raises(mac: FakeMLX) -> None:
    assert gpu.usable() is gpu.metal() is mac.mac.usable
    assert (gpu.why_not() is None) is mac.mac.usable
    assert gpu.info() == (mac.mac.info if mac.mac.usable else {"device_name": "Apple silicon", "architecture": "arm64"})
    assert mac.device == mx.Device(mx.gpu if mac.mac.usable else mx.cpu)  # what does not answer computes nothing
    for key in ("max_buffer_length", "max_recommended_working_set_size", "no such key"):
        assert (found := gpu.count(key)) is None or found > 0


def test_it_is_asked_once(mac: FakeMLX) -> None:
    for _ in range(3):
        gpu.info(), gpu.usable(), gpu.why_not()
    assert mac.asked.count("device_info") == (1 if mac.mac.usable else 2)  # of the CPU that took its place


def test_why_not_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        become(patched, MACS["no Metal device"])
        assert gpu.why_not() == f"MLX finds no GPU that answers: {NO_DEVICE.split('. ')[0]}."
    become(monkeypatch, MACS["the GPU does not answer"])
    assert gpu.why_not() == "MLX finds no GPU that answers: odd: no answer."
    become(monkeypatch, MACS["M1 8 GB"]).set_default_device(mx.cpu)
    assert gpu.why_not() == "MLX was told to compute on the CPU."


@pytest.mark.skipif(mx.is_available(mx.gpu), reason="MLX computes on a GPU here")
def test_this_machine_without_a_gpu() -> None:
    assert (gpu.usable(), gpu.metal()) == (False, False)
    assert gpu.why_not() == "MLX is installed without a GPU backend."
