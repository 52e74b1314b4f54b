"""Models that were loaded for several devices in one process: each computes as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxrun.convert.compare import compare
from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.model import Model
from mlxrun.ops.device import Device, this_device
from mlxrun.ops.native import native

from .test_k_types import VOCAB, written

NATIVE = this_device().native
pytestmark = pytest.mark.skipif(not NATIVE, reason="no native kernels here, so all these devices are one")
DEVICES = {"exact": this_device("exact"), "fast": this_device("fast"), "plain": this_device(native=False)}
STEPS = 4
Logits = list[NDArray[np.float32]]


@pytest.fixture(scope="module", params=["llama", "qwen3moe"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("devices") / "m.gguf", request.param, plain=False)


@pytest.fixture(params=["exact", "fast"])
def setting(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the native library does where a call does not say its precision. Every call of a model's does."""
    before = native.precision()
    native.set_precision(request.param)
    yield request.param
    native.set_precision(before)


def model_on(device: Device, file: Path) -> Model:
    model = load_model(file, options=LoadOptions(device=device))
    assert isinstance(model, Model)
    return model


def passes(model: Model) -> Iterator[mx.array]:
    """Logits, not yet computed: of a prompt, of another one, and of steps of both together."""
    ids = np.random.default_rng(7).integers(0, VOCAB, 64).astype(np.int32)
    first, second = model.new_sequence(), model.new_sequence()
    yield model.logits(model(mx.array(ids[:9]), [(first, 9)]))
    yield model.logits(model(mx.array(ids[9:12]), [(second, 3)]))
    for at in range(12, 12 + 2 * STEPS, 2):
        yield model.logits(model(mx.array(ids[at : at + 2]), [(first, 1), (second, 1)]))


def alone(device: Device, file: Path) -> Logits:
    return [np.array(logits) for logits in passes(model_on(device, file))]


def test_each_gives_what_it_gives_alone(file: Path, setting: str) -> None:
    wanted = {name: alone(device, file) for name, device in DEVICES.items()}
    native.set_precision("fast" if setting == "exact" else "exact")
    found: dict[str, Logits] = {name: [] for name in DEVICES}
    for together in zip(*(passes(model_on(device, file)) for device in DEVICES.values()), strict=True):
        mx.eval(*together)
        for name, logits in zip(DEVICES, together, strict=True):
            found[name].append(np.array(logits))
    for name in DEVICES:
        assert all(map(np.array_equal, found[name], wanted[name])), name


def test_they_are_as_exact_as_they_say(file: Path) -> None:
    exact, fast, plain = (np.concatenate(alone(device, file)) for device in DEVICES.values())
    size = np.abs(exact).max()
    assert 0 < np.abs(plain - exact).max() < 2e-2 * size  # without native kernels Q2_K is a little off
    assert 1e-4 * size < np.abs(fast - exact).max() < 1e-1 * size
    kept = {name: model_on(device, file).new_sequence() for name, device in DEVICES.items()}
    for name, sequence in kept.items():
        mx.eval(model_on(DEVICES[name], file)(mx.array([1, 2]), [(sequence, 2)]))
    types = {
        name: {place.dtype for layer in sequence.layers for place in layer.places}
        or {a.dtype for a in sequence.arrays()}
        for name, sequence in kept.items()
    }
    assert types == {"exact": {mx.float32}, "fast": {mx.float16}, "plain": {mx.float32}}


def test_a_model_is_compared_with_itself_in_exact_arithmetic(file: Path) -> None:
    exact, fast = model_on(DEVICES["exact"], file), model_on(DEVICES["fast"], file)
    ids = np.random.default_rng(1).integers(0, VOCAB, 40).tolist()
    assert compare(exact, exact, ids).kl == 0
    found = compare(fast, exact, ids)
    assert found.kl < 0.1
    assert found.perplexity != found.reference_perplexity  # so close that the rest may round to nothing
