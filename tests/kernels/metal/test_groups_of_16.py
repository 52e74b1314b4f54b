"""Weights in groups of 16, which MLX has not: ours run without being chosen, in whole models, and are tried before."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.cache.sequence import SequenceCache
from mlxrun.loading.forms import hold_for_gpu
from mlxrun.loading.open import recipe_of
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops import metal
from mlxrun.ops.choose import Chooser, Policy
from mlxrun.ops.device import Device, a_mac, this_device
from mlxrun.ops.experts import dispatch, expert_matmul, reference
from mlxrun.ops.matmul import matmul
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.weights import open_checkpoint, read_weights
from tests.loading.test_k_types import VOCAB, written

from ..mslsim import Mode, settings
from .made import BY16, random, wide
from .made import weight as made
from .proofs import changed


def weight(shape: tuple[int, ...], form: tuple[str, int, int]) -> QuantizedWeight:
    w = made(shape, form, mx.float32)
    return QuantizedWeight(w.packed, w.scales, w.biases, "affine", w.bits, w.group)


def off(found: mx.array, wanted: np.ndarray) -> float:
    return float(np.abs(wide(found) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
@pytest.mark.parametrize("rows", [1, 5, 20])
def test_nobody_chooses(rows: int, dtype: mx.Dtype) -> None:
    """Nothing was measured, so MLX's form would run, were there one; x is widened to the scales' type, as MLX does."""
    w, x = weight((40, 96), BY16[2]), random((rows, 96), dtype, 3)
    with settings(Mode.PLAIN) as launches:
        y = matmul(x, w, this_device())
        mx.eval(y)
    assert y.dtype == mx.float32
    assert len(launches) == 1
    assert off(y, wide(x) @ wide(w.dequantize()).T) < 1e-5


def test_not_where_a_person_wants_mlx() -> None:
    w, x = weight((40, 96), BY16[0]), random((3, 96), mx.float32, 3)
    with settings() as launches:
        y = matmul(x, w, a_mac())
        mx.eval(y)
    assert not launches
    assert off(y, wide(x) @ wide(w.dequantize()).T) < 1e-5


@pytest.mark.parametrize("rows", [1, 7, 40])  # few pairs come as they are, many by expert
def test_experts(rows: int) -> None:
    w, x = weight((6, 40, 96), BY16[2]), random((rows, 96), mx.float32, 3)
    ids = mx.array(np.random.default_rng(rows).integers(0, 6, (rows, 2)))
    d = dispatch(ids)
    with settings(Mode.PLAIN) as launches:
        once = d.collect(expert_matmul(d.spread(x), w, d, this_device()))
        mx.eval(once)
        pairs = random((rows * 2, 96), mx.float32, 4).reshape(rows, 2, 1, 96)
        laid = pairs if d.order is None else pairs.reshape(-1, 1, 96)[d.order]
        twice = d.collect(expert_matmul(laid, w, d, this_device()))
        mx.eval(twice)
    assert [one.name for one in launches] == ["mlxrun_qmm"] * 2
    for found, inputs in ((once, mx.repeat(x, 2, axis=0)), (twice, pairs.reshape(-1, 96))):
        assert off(found, wide(reference(inputs, w, ids.reshape(-1))).reshape(rows, 2, 40)) < 1e-5


Logits = list[mx.array]


def answers(path: Path, device: Device, family: str = "") -> tuple[Logits, SequenceCache]:
    """`family`: held as a GPU holds it."""
    checkpoint = open_checkpoint(path).read_as("fine")
    recipe = recipe_of(checkpoint)
    weights = read_weights(checkpoint, recipe)
    if family:
        weights = hold_for_gpu(weights, "gguf", family)
    model = DecoderModel(recipe.decoder, weights, device, fold_offsets=not recipe.folded)
    memory, found = SequenceCache(recipe.decoder, 64), []
    for ids in ((1, 70, 5, 42, 9, 33), (28,)):
        found.append(model.logits(model(mx.array(ids), [(memory, len(ids))])))
    mx.eval(found, memory.arrays())
    return found, memory


@pytest.mark.parametrize("arch", ["llama", "qwen3moe"])
@pytest.mark.parametrize("policy", ["auto", "ours"])
def test_whole_models(arch: str, policy: Policy, tmp_path: Path) -> None:
    wanted, _ = answers(written(tmp_path / "f.gguf", arch, plain=True), this_device("exact"))
    device = this_device("exact", chooser=Chooser(policy))
    with settings(Mode.PLAIN) as launches:
        found, _ = answers(written(tmp_path / "k.gguf", arch, plain=False), device)
    for ours, right in zip(map(wide, found), map(wide, wanted), strict=True):
        assert ours.shape[-1] == VOCAB
        assert np.abs(ours - right).max() < 2e-4 * np.abs(right).max()
    names = Counter(one.name.removeprefix("mlxrun_") for one in launches)
    assert names["qmv"] > 0
    assert names["qmv_few"] > 0
    if policy == "auto":
        assert set(names) == {"qmv", "qmv_few"} | ({"qmm"} if arch == "qwen3moe" else set())


@pytest.mark.parametrize(("family", "dtype", "off_by"), [("llama", mx.float16, 6e-3), ("gemma3", mx.bfloat16, 0.1)])
@pytest.mark.parametrize("arch", ["llama", "qwen3moe"])
def test_a_gpu_computes_all_of_a_file_in_one_type(
    arch: str, family: str, dtype: mx.Dtype, off_by: float, tmp_path: Path
) -> None:
    """Norms are float32 in a GGUF file: taken so, all would be, and no kernel would serve scales in halves."""
    wanted, _ = answers(written(tmp_path / "f.gguf", arch, plain=True), this_device(native=False))
    device = this_device(native=False, chooser=Chooser("ours"))
    with settings(Mode.PLAIN) as launches:
        found, memory = answers(written(tmp_path / "k.gguf", arch, plain=False), device, family)
    assert {a.dtype for a in (*found, *memory.arrays())} == {dtype}
    for ours, right in zip(map(wide, found), map(wide, wanted), strict=True):
        assert np.sqrt(((ours - right) ** 2).mean() / (right**2).mean()) < off_by
    names = Counter(one.name.removeprefix("mlxrun_") for one in launches)
    assert names["paged_attention"] == 2


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 6])
def test_they_are_tried_first(bits: int, dtype: mx.Dtype) -> None:
    tried = metal.computes_groups_of_16.__wrapped__
    with settings(Mode.PLAIN):
        assert tried(bits, dtype)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(WIDTH - shift)", "(WIDTH + 1 - shift)"),  # codes of every kernel
        ("own / 8 * BITS", "own / 16 * BITS"),  # of a few rows
        ("ulong(expert) * N + first_n + n", "first_n + n"),  # of experts
    ],
)
def test_a_device_that_computes_wrong_does_not_get_them(old: str, new: str) -> None:
    with changed(old, new) as found, settings(Mode.PLAIN):
        assert not metal.computes_groups_of_16.__wrapped__(6)
    assert any(found)


def test_a_device_that_refuses_does_not_get_them() -> None:
    def refuse(**_: object) -> object:
        raise RuntimeError("no such kernel")

    from mlxrun.metal_kernels import launch

    with launch.made_by(refuse):
        assert not metal.computes_groups_of_16.__wrapped__(6)
