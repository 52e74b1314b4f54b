"""Wiring as it is tried on a Mac, by Macs that stand in for one."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxrun import gpu
from mlxrun.memory.wiring import Wired, Wiring
from mlxrun.selftest import wiring
from mlxrun.selftest.results import NotRun
from tests.macs import MACS, become

from .heard import check_of, notes_of

WEIGHTS = wiring.WEIGHTS // 16


@pytest.mark.parametrize("name", ["M1 8 GB", "M3 Max 36 GB", "M5 Max 128 GB"])
def test_weights_are_wired_read_back_and_released(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fake = become(monkeypatch, MACS[name])
    fake.set_wired_limit(12345)
    said, heard, notes = notes_of(wiring.wire_and_release)
    assert not notes.bad
    assert heard.numbers == {"before": 12345, "wired": WEIGHTS}
    assert said == "16 MiB wired, read back, and as before afterwards"
    assert fake.wired == 12345


@pytest.mark.parametrize("name", ["no Metal device", "the GPU does not answer"])
def test_without_metal_it_is_not_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    become(monkeypatch, MACS[name])
    with pytest.raises(NotRun, match="Only Metal's memory is wired: MLX finds no GPU that answers"):
        notes_of(wiring.wire_and_release)


def test_here_it_is_run_only_with_metal() -> None:
    if gpu.metal():
        assert not notes_of(wiring.wire_and_release)[2].bad
    else:
        with pytest.raises(NotRun):
            notes_of(wiring.wire_and_release)


def twice(self: Wiring, weights: int) -> Wired:
    mx.set_wired_limit(2 * weights)
    return Wired(2 * weights)


@pytest.mark.parametrize(
    ("wire", "wrong"),
    [
        (twice, "no_more"),
        (lambda self, weights: Wired(weights), "read_back"),
    ],
)
def test_what_is_wired_wrongly_is_seen(monkeypatch: pytest.MonkeyPatch, wire: object, wrong: str) -> None:
    become(monkeypatch, MACS["M1 8 GB"])
    monkeypatch.setattr(Wiring, "wire", wire)
    _, heard, notes = notes_of(wiring.wire_and_release)
    assert notes.bad
    assert not check_of(heard, wrong)["good"]


def test_a_limit_that_is_not_restored_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, MACS["M1 8 GB"])
    monkeypatch.setattr(Wiring, "release", lambda self: None)
    _, heard, _ = notes_of(wiring.wire_and_release)
    assert not check_of(heard, "restored")["good"]


def test_where_nothing_can_be_wired_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, MACS["M1 8 GB"])
    monkeypatch.setattr(Wiring, "wire", lambda self, weights: Wired(why_not="it takes macOS 15 or later"))
    with pytest.raises(NotRun, match="Nothing was wired: it takes macOS 15 or later"):
        notes_of(wiring.wire_and_release)
