"""What is trained is what is served: a family's matrices, fused, cut, turned and quantized ones included, give the same
logits in the form that is trained as when the adapter that came of it is loaded. And how many families have gradients.
"""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.open import open_model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.training.config import TrainConfig
from mlxrun.training.core import ReadOnce, build_core
from mlxrun.training.examples import Example
from mlxrun.training.objectives import loss_of, units
from mlxrun.training.pairs import Pairs, Trained, find_pairs, row_lengths, row_squares
from mlxrun.training.state import save_adapter
from tests.golden.cases import CASES
from tests.golden.checkpoint import reference, write
from tests.golden.measure import Driver

EVERYWHERE = bool(os.environ.get("MLXRUN_TEST_ALL"))
DECODERS = [name for name, case in CASES.items() if not case.encoder]
FEW = ("deepseek_v32", "phi3", "qwen3_next", "deepseek_v3", "gemma3n", "mamba2", "gpt_oss", "glm4")
# their matrices lie inputs first
NONE_TO_TRAIN = {"gpt2"}
NEAR = 3e-5  # of the largest logit


def random_trained(pairs: Pairs, *, dora: bool) -> Trained:
    random, made = np.random.default_rng(4), pairs.drawn(1, row_lengths(pairs) if dora else None)
    for name, array in made.items():
        if name.endswith("lora_B"):
            made[name] = mx.array(0.05 * random.standard_normal(array.shape), mx.float32)
        if name.endswith("magnitude_vector"):
            made[name] = array * mx.array(random.uniform(0.7, 1.4, array.shape), mx.float32)
    return made


def core_of(folder: Path, *, dora: bool = False) -> tuple[Pairs, TrainConfig, object]:
    opened = open_model(folder, device=this_device("exact"))
    decoder = build_core(opened)
    assert decoder.adapted is not None
    config = TrainConfig("m", (), "", rank=3, alpha=6, method="dora" if dora else "lora")
    pairs = find_pairs(opened, decoder.adapted.places, config)
    if dora:
        pairs.squares.update(row_squares(opened, pairs.changed))  # type: ignore[attr-defined]  # a dict all the same
    return pairs, config, decoder


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("name", ["llama_bias", "phi3", "qwen3_next", "deepseek_v3", "mamba"])
def test_the_same_logits(name: str, dora: bool, tmp_path: Path) -> None:
    known = reference(name)
    base = write(known.checkpoint(), tmp_path / "base")
    pairs, config, decoder = core_of(base, dora=dora)
    trained = random_trained(pairs, dora=dora)
    adapter = pairs.adapter(trained)
    read = ReadOnce(len(known.prompt), (None,) * len(decoder.spec.layers), adapter)
    ours = np.array(decoder.logits(decoder(mx.array(known.prompt, mx.int32), [(read, len(known.prompt))])))
    (tmp_path / "out").mkdir()
    save_adapter(tmp_path / "out", config, pairs, trained)
    options = LoadOptions(device=this_device("exact"), adapters=(("own", tmp_path / "out"),))
    driver = Driver(load_model(base, options=options), known)
    memory = driver.sequence()
    memory.adapter = driver.model.holdings.adapters["own"]
    (served,) = driver.run([(memory, known.prompt)])
    top = np.abs(served).max()
    assert np.abs(served - ours).max() <= NEAR * top
    assert np.abs(served - driver.alone(known.prompt)).max() > 1e-2 * top


@pytest.mark.parametrize("name", DECODERS if EVERYWHERE else FEW)
def test_gradients_are_there(name: str, tmp_path: Path) -> None:
    """Of every pair, finite, and of some size. `MLXRUN_TEST_ALL=1` asks every decoder of the golden tests."""
    known = reference(name)
    base = write(known.checkpoint(), tmp_path)
    if name in NONE_TO_TRAIN:
        with pytest.raises(ModelError, match="has no matrix"):
            core_of(base)
        return
    pairs, config, decoder = core_of(base)
    ids = np.array(known.prompt, np.int32)
    example = Example(ids, np.arange(len(ids)) > 0)
    loss, found = mx.value_and_grad(loss_of(decoder, pairs, config))(
        random_trained(pairs, dora=False), [example, example], units([example, example])
    )
    assert np.isfinite(loss.item())
    for key, gradient in found.items():
        size = float(mx.abs(gradient).max().item())
        assert np.isfinite(size), key
        assert size > 0, key
