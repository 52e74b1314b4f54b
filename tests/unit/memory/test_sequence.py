"""What the plan says of weights and of a sequence's memory, against the loader and the caches themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxrun.cache.keys import Keys, capacity
from mlxrun.cache.kinds import planned_bytes, state_bytes
from mlxrun.loading import load_model
from mlxrun.loading import pack as packing
from mlxrun.loading.dry_run import dry_run, packed_bytes
from mlxrun.loading.forms import hold_for_gpu
from mlxrun.loading.open import recipe_of
from mlxrun.memory.sequence import read_bytes, sequence_bytes, token_bytes
from mlxrun.ops.device import a_mac, this_device
from mlxrun.ops.native import pack
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.spec import Attention, Layer
from mlxrun.weights import open_checkpoint, read_weights
from mlxrun.weights.outline import outline
from tests.golden.checkpoint import reference, write

CHUNK = 96
CONTEXTS = (26, 200, 480)
NAMES = (
    "llama",
    "gemma3",  # windows
    "gpt_oss",  # windows, experts
    "llama4_scout",  # chunks
    "gemma4_small",  # layers that borrow keys
    "deepseek_v3",  # latents
    "deepseek_v32",  # latents and an indexer
    "falcon_mamba",
    "granite_hybrid",
    "falcon_h1",
    "jamba",
    "qwen3_next",
    "bert",  # remembers nothing
)


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(reference(request.param).checkpoint(), tmp_path_factory.mktemp(request.param))


def loaded_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of all weights that a real load made."""
    made: list[Any] = []

    def recording(form: Any) -> Any:
        def formed(weight: Any) -> Any:
            made.append(form(weight))
            return made[-1]

        return formed

    monkeypatch.setattr(packing, "pack", recording(packing.pack))
    monkeypatch.setattr(packing, "widen_weight", recording(packing.widen_weight))
    load_model(path)
    return sum(weight.nbytes for weight in made)


@pytest.mark.skipif(not this_device().native, reason="the native CPU kernels are not used on this machine")
def test_planned_weights_are_those_that_loading_makes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(folder)
    recipe = recipe_of(checkpoint)
    assert dry_run(checkpoint, recipe, this_device()).weights.total == loaded_bytes(folder, monkeypatch)


def test_planned_weights_as_stored_are_the_files(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    recipe = recipe_of(checkpoint)
    kept = sum(weight.nbytes for weight in read_weights(checkpoint, recipe).values())
    assert dry_run(checkpoint, recipe, a_mac()).weights.total == kept <= checkpoint.bytes


def test_planned_memory_is_what_the_caches_hold(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    recipe = recipe_of(checkpoint)
    seen = dry_run(checkpoint, recipe, this_device())
    model = load_model(folder)
    vocab = recipe.decoder.vocab
    for context in CONTEXTS:
        sequence: Any = model.new_sequence(512)
        most = 0
        for start in range(0, context, CHUNK):
            rows = min(CHUNK, context - start)
            if recipe.decoder.kind == "encoder" and start:
                break
            model(mx.arange(rows, dtype=mx.int32) % vocab, [(sequence, rows)])
            most = max(most, sequence.bytes)
        assert sequence_bytes(recipe.decoder, context, seen.width, CHUNK, seen.keys) == most


def test_smollm2(smollm2_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(smollm2_gguf)
    recipe = recipe_of(checkpoint)
    stored = dry_run(checkpoint, recipe, a_mac())
    weights = hold_for_gpu(read_weights(checkpoint, recipe), checkpoint.dialect, recipe.decoder.family)
    assert stored.weights.total == sum(w.nbytes for w in weights.values())
    here = dry_run(checkpoint, recipe, this_device())
    if this_device().native:
        assert here.weights.total == loaded_bytes(smollm2_gguf, monkeypatch)
    model = load_model(smollm2_gguf)
    sequence: Any = model.new_sequence(1024)
    for rows in (200, 313, 511):
        model(mx.zeros((rows,), mx.int32), [(sequence, rows)])
        length = sequence.length
        assert sequence_bytes(recipe.decoder, length, here.width, 512, here.keys) == sequence.bytes
    # 30 layers, 3 heads of 64, keys and values
    assert token_bytes(recipe.decoder, here.width, here.keys) == 30 * 2 * 3 * 64 * (here.keys or here.width)


def test_an_outline_is_what_is_read(smollm2_gguf: Path) -> None:
    checkpoint = open_checkpoint(smollm2_gguf)
    drawn, centred = outline(checkpoint), outline(checkpoint, centred=True)
    kinds = set()
    for name, weight in checkpoint.tensors().items():
        same = drawn[name]
        if isinstance(weight, QuantizedWeight):
            assert isinstance(same, QuantizedWeight)
            assert [(p.shape, p.dtype) for p in same.parts] == [(p.shape, p.dtype) for p in weight.parts]
            kinds.add((weight.bits, len(centred[name].parts)))
        else:
            assert (same.shape, same.dtype) == (weight.shape, weight.dtype)
    assert kinds == {(8, 2), (4, 3)}  # Q8_0 needs no biases, Q4_1 does


@pytest.mark.parametrize("keep", [1, 8, 128, 500])
@pytest.mark.parametrize("chunk", [1, 7, 100, 128, 512])
def test_a_window_never_holds_more_than_told(keep: int, chunk: int) -> None:
    memory, most, tokens = Keys(keep), 0, 0
    while tokens < 1500:
        rows = mx.zeros((1, 1, min(chunk, 1500 - tokens), 1), mx.float16)
        memory.append(rows, rows)
        tokens += rows.shape[2]
        if tokens % (chunk * 50) < chunk:
            mx.eval(memory.arrays())
        most = max(most, memory.bytes)
        assert capacity(tokens, keep, chunk) * 2 * 2 == most


def test_a_window_costs_the_same_at_every_length() -> None:
    assert capacity(10**9, 1024, 512) == capacity(10**5, 1024, 512)


def test_by_hand() -> None:
    full = Layer(mixer=Attention(heads=8, kv_heads=2, head_dim=64, scale=1.0), ffn=None)
    assert planned_bytes(full, 257, 2, 512) == 512 * 2 * 2 * 64 * 2
    assert planned_bytes(full, 0, 2, 512) == 0
    assert state_bytes(full, 2) == 0
    assert isinstance(full.mixer, Attention)
    window = replace(full, mixer=replace(full.mixer, window=100))
    spec = recipe_of_layers(full, window)
    assert token_bytes(spec, 2) == 2 * 2 * 64 * 2  # the window does not grow
    assert read_bytes(spec, 1000, 2) == (1000 + 100) * 2 * 2 * 64 * 2


def recipe_of_layers(*layers: Layer) -> Any:
    from mlxrun.spec import Decoder

    return Decoder(family="made", dim=64, vocab=10, layers=layers, norm=None, tied=True, context=4096)


@pytest.mark.skipif(not this_device().native, reason="the native CPU kernels are not used on this machine")
@pytest.mark.parametrize("shape", [(8, 64), (100, 512), (3, 33, 192)])
def test_packed_sizes(shape: tuple[int, ...]) -> None:
    full = mx.zeros(shape)
    layouts = (("affine", 4, 64), ("affine", 6, 32), ("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16))
    for mode, bits, group in layouts:
        parts = mx.quantize(full, group_size=group, bits=bits, mode=mode)
        weight = QuantizedWeight(parts[0], parts[1], parts[2] if mode == "affine" else None, mode, bits, group)  # type: ignore[arg-type]  # a Mode
        assert packed_bytes(weight) == pack(weight).nbytes
    for dtype in (mx.float32, mx.bfloat16):
        assert packed_bytes(full.astype(dtype)) == pack(full.astype(dtype)).nbytes
