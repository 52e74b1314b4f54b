"""Whole models whose every matrix is stored in groups of 16 (Q2_K, Q3_K, Q6_K): beside the same values in float32, on
every path of the native kernels and without them. Blocks are random bytes; the `gguf` package says what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxrun.loading import LoadOptions, forms, load_model, ready
from mlxrun.loading import pack as packing
from mlxrun.loading.dry_run import dry_run
from mlxrun.loading.open import recipe_of
from mlxrun.ops import choose, metal
from mlxrun.ops.device import Device, a_mac, this_device
from mlxrun.weights import open_checkpoint

WIDTH, HEADS, HEAD, HIDDEN, VOCAB, LAYERS, EXPERTS = 256, 4, 64, 512, 80, 2, 4
PROMPT, STEPS = 70, 5  # prompts take tiles and pairs of panels, steps are single rows
Blocks = NDArray[np.uint8]
# (bytes of a block of 256, where its half floats stand)
LAYOUTS = {"Q2_K": (84, (80, 82)), "Q3_K": (110, (108,)), "Q6_K": (210, (208,))}
KINDS = {"attn_k": "Q3_K", "attn_output": "Q2_K", "ffn_gate": "Q3_K", "ffn_up": "Q2_K"}  # all others: Q6_K
needs_native = pytest.mark.skipif(
    not this_device().native, reason="no native kernels here, and only they know groups of 16"
)


def matrices(arch: str) -> dict[str, tuple[int, ...]]:
    wide, narrow = HEADS * HEAD, HEADS // 2 * HEAD
    found: dict[str, tuple[int, ...]] = {"token_embd": (VOCAB, WIDTH)}
    for layer in range(LAYERS):
        own: dict[str, tuple[int, ...]] = {"attn_q": (wide, WIDTH), "attn_output": (WIDTH, wide)}
        own |= {"attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH)}
        stack, tail = ((EXPERTS,), "_exps") if arch == "qwen3moe" else ((), "")
        own |= {f"ffn_{part}{tail}": (*stack, HIDDEN, WIDTH) for part in ("gate", "up")}
        own[f"ffn_down{tail}"] = (*stack, WIDTH, HIDDEN)
        found |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    return found


def drawn(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Blocks:
    nbytes, halves = LAYOUTS[kind]
    blocks = random.integers(0, 256, (*shape[:-1], shape[-1] // 256, nbytes), dtype=np.uint8)
    for at in halves:
        scale = random.uniform(0.3, 1.0, blocks.shape[:-1]) * {"Q2_K": 4e-3, "Q3_K": 1e-3, "Q6_K": 4e-5}[kind]
        blocks[..., at : at + 2] = scale.astype("<f2")[..., None].view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)


def written(path: Path, arch: str, plain: bool) -> Path:
    random = np.random.default_rng(6)
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(VOCAB)
    if arch == "qwen3moe":
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(HIDDEN)
    for name, shape in matrices(arch).items():
        kind = KINDS.get(name.split(".")[-1].removesuffix("_exps"), "Q6_K")
        blocks, number = drawn(random, kind, shape), gguf.GGMLQuantizationType[kind]
        if plain:
            writer.add_tensor(f"{name}.weight", gguf.quants.dequantize(blocks, number))
        else:
            writer.add_tensor(f"{name}.weight", blocks, raw_dtype=number)
    for layer in range(LAYERS):
        vectors = {"attn_norm": WIDTH, "ffn_norm": WIDTH}
        vectors |= {"attn_q_norm": HEAD, "attn_k_norm": HEAD} if arch == "qwen3moe" else {}
        for name, size in vectors.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", random.uniform(0.8, 1.2, size).astype(np.float32))
        if arch == "qwen3moe":
            router = random.normal(size=(EXPERTS, WIDTH)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", router)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=["llama", "qwen3moe"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(in blocks, in float32)"""
    folder = tmp_path_factory.mktemp(request.param)
    return written(folder / "k.gguf", request.param, plain=False), written(folder / "f.gguf", request.param, plain=True)


def logits(model: Any) -> NDArray[np.float64]:
    """Of a prompt, and of steps of one row after it."""
    ids = np.random.default_rng(7).integers(0, VOCAB, PROMPT + STEPS)
    sequence, found = model.new_sequence(), []
    for first, last in [(0, PROMPT), *((PROMPT + i, PROMPT + i + 1) for i in range(STEPS))]:
        hidden = model(mx.array(ids[first:last].astype(np.int32)), [(sequence, last - first)])
        found.append(np.array(model.logits(hidden), np.float64))
    return np.concatenate(found)


@needs_native
def test_the_same_as_in_float32(files: tuple[Path, Path]) -> None:
    exact = LoadOptions(device=this_device("exact"))
    blocks, plain = load_model(files[0], options=exact), load_model(files[1], options=exact)
    if "llama" in str(files[0]):
        assert len(blocks.decoder.runs) == 1  # type: ignore[union-attr]  # a model of ours
    found, wanted = logits(blocks), logits(plain)
    assert np.abs(wanted).max() > 1
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
    fast = logits(load_model(files[0]))  # keys and values are float16 too
    assert np.abs(fast - wanted).max() < 1e-2 * np.abs(wanted).max()
    assert (fast.argmax(-1) == wanted.argmax(-1)).mean() > 0.95


@needs_native
def test_what_is_kept_ready_is_the_same(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "LEAST", 0)
    monkeypatch.setattr(ready, "SPARE", 0)
    made, options = load_model(files[0]), LoadOptions(ready=tmp_path / "ready")
    first, second = load_model(files[0], options=options), load_model(files[0], options=options)
    assert first.holdings.budget.mapped  # type: ignore[union-attr]  # a model of ours
    for kept in (first, second):
        assert np.array_equal(logits(kept), logits(made))


@needs_native
def test_planned_bytes_are_those_that_loading_makes(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    for name in ("pack", "widen_weight"):
        own = getattr(packing, name)
        monkeypatch.setattr(packing, name, lambda weight, own=own: made.append(own(weight)) or made[-1])
    checkpoint = open_checkpoint(files[0])
    seen = dry_run(checkpoint, recipe_of(checkpoint), this_device())
    load_model(files[0])
    assert seen.weights.total == sum(weight.nbytes for weight in made)
    table = next(weight for weight in made if weight.shape == (VOCAB, WIDTH))
    assert table.nbytes == VOCAB * WIDTH  # Q6_K is a byte a weight


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_held_in_a_type_it_has_mlxs_layouts(files: tuple[Path, Path], dtype: mx.Dtype) -> None:
    """As without native kernels: no group of 16 reaches MLX's operations, and Q2_K is a little off, which may send a
    row to another expert."""
    found, wanted = logits(load_model(files[0], dtype=dtype)), logits(load_model(files[1], dtype=mx.float32))
    assert np.median(np.abs(found - wanted).max(axis=-1)) < 0.05 * np.abs(wanted).max()


def reading(path: Path, device: Device, dtype: mx.Dtype | None = None) -> str:
    return forms.reading_of(open_checkpoint(path), device, dtype)


def test_who_gets_groups_of_16_on_a_cpu(files: tuple[Path, Path]) -> None:
    path = files[0]
    plain = Device(native=False, precision="exact", gpu=False, chooser=choose.Chooser())
    assert reading(path, plain) == reading(path, plain, mx.float32) == "wide"
    native = replace(plain, native=True)
    assert reading(path, native) == "fine"
    assert reading(path, native, mx.float32) == "wide"


def test_who_gets_groups_of_16_on_a_gpu(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ours may run and were seen to compute right, and for files that have such types."""
    asked: list[tuple[int, mx.Dtype]] = []
    monkeypatch.setattr(choose.Chooser, "possible", lambda self: self.policy != "mlx")
    monkeypatch.setattr(
        metal, "computes_groups_of_16", lambda bits, dtype: asked.append((bits, dtype)) or bits != wrong
    )
    wrong, gpu = 0, Device(native=False, precision="exact", gpu=True, chooser=choose.Chooser())
    assert reading(files[0], gpu) == "fine"
    assert asked == [(bits, mx.float16) for bits in (2, 3, 6)]
    assert reading(files[1], gpu) == reading(files[0], gpu, mx.float16) == "mlx"
    assert asked == [(bits, mx.float16) for bits in (2, 3, 6)]
    wrong = 6
    assert reading(files[0], gpu) == "mlx"
    wrong = 0
    assert reading(files[0], a_mac()) == "mlx"
