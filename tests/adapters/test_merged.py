"""A model with an adapter answers as the checkpoint in which NumPy has merged it: every matrix of every kind of layer
that may change, through the loader's own default path, alone and beside sequences that have another adapter or none."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.model import Model
from mlxrun.ops.device import Device, this_device
from mlxrun.spec import ModelError
from tests.golden.checkpoint import Checkpoint, reference, write
from tests.golden.measure import Driver, Outputs

from .made import ALPHA, RANK, Pair, drawn_pairs, merged, write_peft

# attention and gated networks, biases, norms after, fused matrices, Conv1D, latents, mixtures, and recurrent layers
FAMILIES = ("llama_bias", "gpt2", "phi3", "gemma4_small", "cohere2", "deepseek_v3", "qwen3_next", "mamba", "jamba")
INPUTS_FIRST = {"gpt2"}
# of mixtures, of tables that are looked up head by head, and where a projection is half of a sum
FIXED = ("experts", "router", "gate.weight", "kv_b_proj", "dt_proj", "switch", "layer.weight")
EXACT, FAST = 3e-5, 4e-3  # of the largest output; measured at most 1.4e-5


def changeable(name: str, checkpoint: Checkpoint) -> dict[str, Pair]:
    pairs = drawn_pairs(checkpoint, turned=name in INPUTS_FIRST)
    return {key: pair for key, pair in pairs.items() if not any(part in key for part in FIXED)}


def driver(folder: Path, known: str, device: Device, **adapters: Path) -> Driver:
    options = LoadOptions(device=device, adapters=tuple(adapters.items()))
    return Driver(load_model(folder, options=options), reference(known))


def run(driver: Driver, known: str, *names: str | None) -> list[Outputs]:
    """The prompt, with each adapter in one batch."""
    memories = []
    for name in names:
        memory = driver.sequence()
        memory.adapter = None if name is None else driver.model.holdings.adapters[name]
        memories.append(memory)
    return driver.run([(memory, reference(known).prompt) for memory in memories])


def off(got: Outputs, wanted: Outputs) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_answers_as_the_merged_checkpoint(name: str, tmp_path: Path) -> None:
    checkpoint, turned = reference(name).checkpoint(), name in INPUTS_FIRST
    pairs = changeable(name, checkpoint)
    base = write(checkpoint, tmp_path / "base")
    both = write(merged(checkpoint, pairs, ALPHA / RANK, turned=turned), tmp_path / "merged")
    one = write_peft(tmp_path / "one", pairs, fan_in_fan_out=turned)
    for device, least in ((this_device("exact"), EXACT), (this_device("fast"), FAST)):
        (wanted,) = run(driver(both, name, device), name, None)
        (plain,) = run(driver(base, name, device), name, None)
        found = driver(base, name, device, one=one)
        alone, nobody = run(found, name, "one")[0], run(found, name, None)[0]
        assert off(alone, wanted) <= least
        assert off(nobody, plain) <= least
        assert off(alone, plain) > 0.1
        assert not found.model.notes or "adapter" not in " ".join(found.model.notes)


def test_a_row_has_its_own_bits_whoever_is_beside_it(tmp_path: Path) -> None:
    checkpoint = reference("qwen3").checkpoint()
    base = write(checkpoint, tmp_path / "base")
    adapters = {
        name: write_peft(tmp_path / name, drawn_pairs(checkpoint, seed, rank), r=rank)
        for name, seed, rank in (("a", 1, 3), ("b", 2, 16), ("c", 3, 1), ("d", 4, 7))
    }
    found = driver(base, "qwen3", this_device(), **adapters)
    names = ("a", None, "b", "b", "c", "d", "a")
    together = run(found, "qwen3", *names)
    for name, outputs in zip(names, together, strict=True):
        alone = run(found, "qwen3", name)[0]
        if this_device().native:
            np.testing.assert_array_equal(outputs, alone)
        assert off(outputs, alone) <= EXACT
    assert len({outputs.tobytes() for outputs in together}) == 5


def test_steps_and_chunks_are_the_whole_prompt(tmp_path: Path) -> None:
    checkpoint = reference("llama").checkpoint()
    base, adapter = write(checkpoint, tmp_path / "base"), write_peft(tmp_path / "one", drawn_pairs(checkpoint))
    found = driver(base, "llama", this_device(), one=adapter)
    memory, prompt, parts = found.sequence(), reference("llama").prompt, []
    memory.adapter = found.model.holdings.adapters["one"]
    for start, end in ((0, 5), (5, 6), (6, 13), (13, len(prompt))):
        parts.append(found.run([(memory, prompt[start:end])])[0])
    forked = memory.fork()
    assert forked is not None
    assert forked.adapter is memory.adapter
    assert off(np.concatenate(parts), run(found, "llama", "one")[0]) <= EXACT


def test_dora_gives_each_row_its_own_length(tmp_path: Path) -> None:
    """Against float64: magnitude * (W + s b a) / |W + s b a|, where biases stay as they are."""
    checkpoint = reference("llama_bias").checkpoint()
    pairs = changeable("llama_bias", checkpoint)
    random, lengths, weights = np.random.default_rng(5), {}, dict(checkpoint.weights)
    for name, pair in pairs.items():
        whole = weights[name].astype(np.float64) + ALPHA / RANK**0.5 * pair.b.astype(np.float64) @ pair.a
        rows = np.linalg.norm(whole, axis=1)
        lengths[name] = (rows * random.uniform(0.5, 2, rows.shape)).astype(np.float32)
        weights[name] = (whole * (lengths[name] / rows)[:, None]).astype(np.float32)
    base = write(checkpoint, tmp_path / "base")
    both = write(Checkpoint(checkpoint.config, weights), tmp_path / "merged")
    dora = write_peft(tmp_path / "dora", pairs, lengths, use_dora=True, use_rslora=True)
    for device, least in ((this_device("exact"), EXACT), (this_device("fast"), FAST)):
        (wanted,) = run(driver(both, "llama_bias", device), "llama_bias", None)
        (got,) = run(driver(base, "llama_bias", device, dora=dora), "llama_bias", "dora")
        assert off(got, wanted) <= least


def test_what_cannot_change_while_the_model_runs_is_told(tmp_path: Path) -> None:
    checkpoint = reference("deepseek_v3").checkpoint()
    base = write(checkpoint, tmp_path / "base")
    fixed = {name: pair for name, pair in drawn_pairs(checkpoint).items() if "kv_b_proj" in name}
    adapter = write_peft(tmp_path / "one", fixed)
    with pytest.raises(ModelError, match=r"changes .*k_b.*cannot change while this model runs"):
        driver(base, "deepseek_v3", this_device(), one=adapter)


def test_a_model_without_adapters_is_built_as_before(tmp_path: Path) -> None:
    base = write(reference("llama").checkpoint(), tmp_path / "base")
    model = load_model(base)
    assert isinstance(model, Model)
    assert model.decoder.adapted is None
    assert model.holdings.adapters == {}


def test_a_plain_form_adds_to_spans_of_rows() -> None:
    """`ops.adapters.adapted` by itself: rows before, between and behind spans stay as they are."""
    from mlxrun.ops.adapters import AdapterPart, adapted

    random, device = np.random.default_rng(1), this_device()
    x, y, a, b, gain, bias = (
        mx.array(random.standard_normal(shape), mx.float32) for shape in ((9, 5), (9, 4), (2, 5), (4, 2), (4,), (4,))
    )
    plain, dora = AdapterPart(a, b, 0.5), AdapterPart(a, b, 2.0, gain)
    made = np.array(adapted(x, y, bias, [(1, 2, plain), (5, 3, dora)], device))
    wanted = np.array(y, np.float64)
    change = np.array(x, np.float64) @ np.array(a, np.float64).T @ np.array(b, np.float64).T
    wanted[1:3] += 0.5 * change[1:3]
    own = np.array(bias, np.float64)
    wanted[5:8] = (wanted[5:8] - own + 2 * change[5:8]) * np.array(gain, np.float64) + own
    np.testing.assert_allclose(made, wanted, atol=1e-5)
