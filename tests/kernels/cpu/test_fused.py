"""What `mlxrun.ops` hands to the native kernels, written down instead of run; and when it hands anything at all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlxrun.cpu_kernels import native as library

from mlxrun.ops import device as devices
from mlxrun.ops import fused, native
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.quantized import QuantizedWeight

X, IDS = mx.ones((3, 8)), mx.array([[0.0], [1.0], [0.0]])
NORM, Q_NORM, K_NORM = fused.Rms(mx.ones(8), 0.5), fused.Rms(mx.ones(4), 0.25), fused.Rms(mx.zeros(4), 0.125)
TURN = fused.Rotation(mx.ones(2), mx.arange(3), True, 1.5)
EXACT, FAST = (replace(this_device(), native=True, precision=each) for each in ("exact", "fast"))


class Written(tuple):
    """A call of the library: its name, its arguments, those by name."""


class Library:
    """Answers every call with what was asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **named: Written((name, arguments, named))


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "native", Library())


def same(found: Any, *wanted: Any) -> bool:
    return len(found) == len(wanted) and all(
        a is b or (not isinstance(a, mx.array) and a == b) for a, b in zip(found, wanted, strict=True)
    )


def front(norm: fused.Rms | None = NORM, heads: Any = (Q_NORM, K_NORM), device: Device = FAST) -> fused.Heads:
    return fused.Heads(["q", "k", "v"], [None, X, None], 4, norm, heads, device)  # type: ignore[list-item]  # any will do


def test_the_norms_of_heads() -> None:
    assert same(front().norms[1], NORM.weight, 0.5, Q_NORM.weight, K_NORM.weight, 0.25)
    assert same(front(None, None).norms[1], None, 0.0, None, None, 0.0)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize(("device", "dtype", "rounding"), [(EXACT, mx.float32, 0), (FAST, mx.float16, 1)])
def test_heads(one: bool, device: Device, dtype: mx.Dtype, rounding: int) -> None:
    made = front(device=device)
    name, arguments, named = made(X, TURN, one_sequence=one)
    assert (name, named) == ("heads_of", {})
    x, weights, biases, dim, norms, rotation, alone, kept, how = arguments
    assert same((x, dim, norms, alone, kept, how), X, 4, made.norms, one, dtype, rounding)
    assert (weights, biases) == (["q", "k", "v"], [None, X, None])
    assert same(rotation[1], TURN.freqs, TURN.positions, True, 1.5)
    assert same(made(X, None, one_sequence=one)[1][5][1], None, None)


def test_products_and_layers() -> None:
    name, arguments, _ = fused.add_matmul(X, "w", "bias", "rest", EXACT)  # type: ignore[arg-type]  # any will do
    assert name == "matmul"
    assert same(arguments, X, "w", "bias", "rest", 0)
    name, arguments, _ = fused.FeedForward(NORM, "gate", "up", "down", "silu", FAST)(X)  # type: ignore[arg-type]  # any will do
    assert name == "feed_forward"
    assert same(arguments, X, "gate", "up", "down", "silu", NORM.weight, 0.5, True, 1)


def test_experts() -> None:
    one = library.pack_plain(mx.ones((2, 4, 8)))
    other = library.pack_plain(mx.zeros((2, 4, 8)))
    plain, biases = mx.ones((2, 4, 8)), ["a", None, "c"]
    for wrong in ((plain, one, one), (one, plain, one), (one, one, plain)):
        assert fused.Experts.of(*wrong, biases, "silu", EXACT) is None  # type: ignore[arg-type]  # any will do
    for gate in (one, None):
        made = fused.Experts.of(gate, other, one, biases, "silu", EXACT)  # type: ignore[arg-type]  # any will do
        assert made is not None
        name, (x, ids, weights, *rest), _ = made(X, IDS, IDS.astype(mx.float16))
        assert (name, ids.dtype, weights.dtype) == ("experts", mx.int32, mx.float32)
        assert x is X
        assert mx.array_equal(ids, IDS)
        assert mx.array_equal(weights, IDS)
        assert same(rest, gate, other, one, "silu", "a", None, "c", None, 0)


def test_packed_is_all_of_them() -> None:
    one, plain = library.pack_plain(mx.ones((4, 8))), mx.ones((4, 8))
    assert fused.all_packed([one, one])
    assert not fused.all_packed([one, plain])
    assert not fused.all_packed([plain, one])


def test_a_weight_is_packed_in_its_own_form() -> None:
    w = mx.sin(mx.arange(64 * 64, dtype=mx.float32)).reshape(64, 64)
    quantized = QuantizedWeight(*mx.quantize(w, 32, 8), "affine", 8, 32)
    made = native.pack(quantized)
    assert (made.shape, made.mode, made.bits, made.group) == ((64, 64), "affine", 8, 32)
    rows = library.table_rows(mx.arange(64, dtype=mx.int32), made, mx.float32)
    assert mx.abs(rows - quantized.dequantize()).max() < 1e-5
    plain = native.pack(w.astype(mx.bfloat16))
    assert (plain.shape, plain.mode, plain.bits) == ((64, 64), "plain", 16)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_keys_are_kept_half_as_wide_only_where_products_are_fast(used: bool, precision: Any) -> None:
    device = replace(this_device(precision), native=used)
    half = used and precision == "fast"
    assert device.kept(mx.float32) == (mx.float16 if half else mx.float32)
    for dtype in (mx.float16, mx.bfloat16):
        assert device.kept(dtype) == dtype


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("built", [True, False])
def test_native_kernels_run_where_there_is_no_gpu(built: bool, gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", built)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu if gpu else mx.cpu))
    assert this_device("exact").native == (built and not gpu)


@pytest.mark.parametrize("setting", ["exact", "fast"])
def test_the_precision_is_what_the_library_was_set_to_unless_said(setting: Any) -> None:
    library.set_precision(setting)
    assert this_device().precision == setting
    assert [this_device(said).rounding for said in ("exact", "fast")] == [0, 1]


@pytest.mark.parametrize("there", [True, False])
def test_without_a_library_nothing_is_given_back(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(native, "native", SimpleNamespace(release_scratch=lambda: called.append("released")))
    monkeypatch.setattr(native, "available", there)
    native.release()
    assert called == (["released"] if there else [])


@pytest.mark.parametrize("kind", [mx.cpu, mx.gpu], ids=str)
def test_a_device_asks_mlx_where_it_computes_and_keeps_the_chooser_it_is_given(
    kind: mx.DeviceType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(kind))
    assert this_device("exact").gpu == (kind == mx.gpu)
    mine = devices.Chooser("ours")
    assert this_device("exact", chooser=mine).chooser is mine
    made = this_device("exact").chooser
    assert (made.policy, dict(made.picks)) == ("auto", {})


def test_a_mac_has_a_gpu_and_none_of_our_kernels() -> None:
    mac = devices.a_mac()
    assert (mac.native, mac.precision, mac.gpu, mac.chooser.policy) == (False, "exact", True, "mlx")
