"""An NVIDIA card in the place of a GPU: what is planned, chosen and held. No card was asked; MLX is that of a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxrun import gpu
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.refused_layouts import PRODUCTS, hold_refused
from mlxrun.memory.headroom import Budget, Headroom, footprint
from mlxrun.memory.here import this_machine
from mlxrun.memory.machine import available_bytes, private_bytes, total_bytes
from mlxrun.memory.wiring import Wiring
from mlxrun.ops import delta
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import this_device
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.tune import picks
from tests.cards import H200, insert_card
from tests.golden.checkpoint import write
from tests.golden.test_quantized import FORMATS, quantized
from tests.macs import GIB, FakeMLX, become


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeMLX:
    return insert_card(monkeypatch)


def test_its_own_memory_is_planned_with(card: FakeMLX) -> None:
    machine = this_machine()
    assert (machine.name, machine.gpu, machine.card) == ("NVIDIA H200", True, True)
    assert (machine.total, machine.usable, machine.max_buffer) == (139 * GIB, 100 * GIB, None)
    assert (total_bytes(), available_bytes()) == (139 * GIB, 100 * GIB)
    assert isinstance(card.mac.info, dict)
    card.mac.info["free_memory"] = GIB  # others took it
    assert available_bytes() == this_machine().usable == GIB


def test_what_is_taken_is_what_mlx_holds_there(card: FakeMLX) -> None:
    assert footprint() == mx.get_active_memory() + mx.get_cache_memory() != private_bytes()
    assert Headroom(Budget(GIB, 0, 0), before=footprint()).room == GIB


@pytest.mark.parametrize("info", [{}, {"total_memory": 5}, {**H200, "free_memory": "all"}, {**H200, "total_memory": 0}])
def test_one_that_does_not_say_is_planned_with_the_systems(
    info: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = total_bytes()
    insert_card(monkeypatch, info)
    assert gpu.card() is None
    assert total_bytes() == whole
    assert this_machine().usable <= whole


def test_macs_have_no_memory_apart(mac: FakeMLX) -> None:
    assert gpu.card() is None
    assert not this_machine().card


def test_nothing_of_apples_is_chosen(card: FakeMLX) -> None:
    device = this_device()
    assert (device.native, device.gpu) == (False, True)
    for policy in ("auto", "ours"):
        assert not Chooser(policy).possible()
    assert picks.this_machine() is None
    assert Wiring("max").wire(GIB).bytes is None
    assert card.wired is None


def test_only_metal_has_mlxs_kernel_for_the_delta_rule(card: FakeMLX, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's CUDA library says "GatedDeltaUpdate has no CUDA implementation" and loops over rows instead."""
    asked: list[tuple[int, ...]] = []

    def fused(q: mx.array, k: mx.array, v: mx.array, *rest: mx.array) -> tuple[mx.array, mx.array]:
        asked.append(q.shape)
        return v, rest[-1]

    def drawn(*shape: int) -> mx.array:
        return mx.random.normal(shape, key=mx.random.key(len(shape))) / 8

    monkeypatch.setattr(mx.fast, "gated_delta_update", fused)
    q, v, beta, state = drawn(1, 5, 16, 128), drawn(1, 5, 32, 128), mx.ones((1, 5, 32)) / 2, mx.zeros((1, 32, 128, 128))
    given = q, q, v, -beta, beta, state
    wanted = delta.reference(*given)
    for found, right in zip(delta.gated_delta(*given, this_device()), wanted, strict=True):
        assert mx.allclose(found, right, rtol=1e-4, atol=1e-4)
    assert asked == []
    become(monkeypatch, card.mac)  # Metal again
    delta.gated_delta(*given, this_device())
    assert asked == [q.shape]


def weight(shape: tuple[int, ...], mode: Any = "affine", bits: int = 4, group: int = 32) -> QuantizedWeight:
    packed, scales, *biases = mx.quantize(mx.random.normal(shape, key=mx.random.key(1)), group, bits, mode)
    return QuantizedWeight(packed, scales, biases[0] if biases else None, mode, bits, group)


def test_what_is_refused_is_held_in_full_and_told() -> None:
    """Each layout and shape is tried once, by all kinds of products."""
    found: dict[str, Weight] = {
        "norm": mx.ones((64,)),
        "a": weight((16, 64)),
        "b": weight((16, 64)),
        "c": weight((32, 64)),
        "d": weight((16, 64), "mxfp4"),
        "experts": weight((5, 16, 64)),
        "more experts": weight((5, 16, 64), bits=8),
    }
    tried: list[tuple[str, tuple[int, ...], int, int]] = []

    def product(x: mx.array, w: QuantizedWeight) -> mx.array:
        tried.append((w.mode, w.shape, w.bits, x.shape[0]))
        if w.mode == "mxfp4" or (w.ndim == 3 and w.bits == 8):
            raise RuntimeError(f"[quantized_matmul] No implementation for {w.mode}\nand more")
        return x

    held, note = hold_refused(found, None, {2: (product,), 3: (product,)})
    full = {name for name in found if held[name] is not found[name]}
    assert full == {"d", "more experts"}
    for name, dtype in (("d", mx.bfloat16), ("more experts", mx.float32)):
        one, stored = held[name], found[name]
        assert isinstance(one, mx.array)
        assert isinstance(stored, QuantizedWeight)
        assert (one.dtype, one.shape) == (dtype, stored.shape)
        assert mx.array_equal(one, stored.dequantize(dtype))
    assert note == (
        "MLX does not multiply by all of these quantized weights on this GPU, so some are held in full: d and 1 more "
        "([quantized_matmul] No implementation for mxfp4; [quantized_matmul] No implementation for affine)."
    )
    assert tried == [
        *(("affine", (16, 64), 4, rows) for rows in (1, 8, 64)),
        *(("affine", (32, 64), 4, rows) for rows in (1, 8, 64)),
        ("mxfp4", (16, 64), 4, 1),
        *(("affine", (2, 16, 64), 4, rows) for rows in (1, 8, 64)),
        ("affine", (2, 16, 64), 8, 1),
    ]


def test_nothing_is_said_where_all_of_it_multiplies() -> None:
    found: dict[str, Weight] = {"a": weight((16, 64)), "experts": weight((3, 16, 64)), "norm": mx.ones((4,))}
    assert hold_refused(found, mx.float32) == (found, None)
    assert PRODUCTS.keys() == {2, 3}


def logits(folder: Path) -> tuple[mx.array, tuple[str, ...]]:
    """Of a prompt and of a step after it."""
    model = load_model(folder, options=LoadOptions(context=64))
    memory, found = model.new_sequence(), []
    for ids in (range(40), range(3, 4)):
        hidden = model(mx.array(list(ids), mx.int32), [(memory, len(ids))])
        found.append(model.logits(hidden))
    return mx.concatenate(found), model.notes


@pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v3"])
def test_a_model_with_refused_products_answers_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(quantized(name, FORMATS["affine 4"]), tmp_path / "model")
    insert_card(monkeypatch)
    wanted, notes = logits(folder)
    (unmapped,) = notes
    assert "not all is mapped" in unmapped

    def refuse(*_: object, **__: object) -> mx.array:
        raise RuntimeError("[gather_qmm] No implementation for problem shape")

    real = mx.quantized_matmul

    def narrow(x: mx.array, w: mx.array, *rest: Any, **how: Any) -> mx.array:
        if w.shape[-2] % 64:
            raise RuntimeError("[quantized_matmul] No implementation for problem shape")
        return real(x, w, *rest, **how)

    monkeypatch.setattr(mx, "gather_qmm", refuse)
    monkeypatch.setattr(mx, "quantized_matmul", narrow)
    found, notes = logits(folder)
    assert mx.abs(found - wanted).max() < 1e-4 * mx.abs(wanted).max()
    note = next(note for note in notes if note != unmapped)
    assert "[gather_qmm] No implementation" in note
    assert "[quantized_matmul] No implementation" in note


def test_a_mac_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, insert_card(monkeypatch).mac)  # Metal again
    folder = write(quantized("llama", FORMATS["affine 4"]), tmp_path / "model")
    monkeypatch.setattr("mlxrun.loading.forms.hold_refused", None)
    assert load_model(folder).notes == ()
