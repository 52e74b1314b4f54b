"""A GGUF file is never in memory as a whole: its bytes are views, its tensors are taken apart piece by piece."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlxrun.convert.folder import convert_folder
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.ops.native import native
from mlxrun.ops.quantized import QuantizedWeight, Weight
from mlxrun.weights import gguf_tensors, open_checkpoint
from mlxrun.weights.gguf import read_gguf
from mlxrun.weights.gguf_tensors import FORMS, SIZES, Reading, load_tensors
from tests.adopting import FakeMetal

maps = pytest.mark.skipif(native is None, reason="the native library is not built, and nothing else maps here")
WRITABLE = [kind for kind in FORMS if kind in gguf.GGMLQuantizationType.__members__]  # Ollama's own kind is not
READINGS: tuple[Reading, ...] = ("mlx", "wide", "fine")
MATRICES, ROWS, WIDTH = 60, 1024, 1024


def write(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> Path:
    writer = gguf.GGUFWriter(str(path), "llama")
    for name, (kind, raw) in tensors.items():
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(kind: str, *shape: int) -> np.ndarray:
    """Stored bytes of such a tensor; whichever is the high half of a scale is finite."""
    values, nbytes = SIZES[kind]
    extent = (*shape[:-1], shape[-1] // values * nbytes)
    return np.random.default_rng(0).integers(0, 0x70, extent, dtype=np.uint8)


def parts(weight: Weight) -> tuple[mx.array, ...]:
    return weight.parts if isinstance(weight, QuantizedWeight) else (weight,)


def peak_of(work: Callable[[], object]) -> int:
    gc.collect()  # nothing of an earlier test is freed meanwhile
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", WRITABLE)
def test_pieces_and_views_are_the_whole(
    kind: str, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.gguf", {"m": (kind, blocks(kind, 7, 512)), "e": (kind, blocks(kind, 3, 4, 512))})
    places = read_gguf(path).tensors
    whole = load_tensors(path, places, reading, mapped=False)
    monkeypatch.setattr(gguf_tensors, "PIECE", 2 * places["m"].nbytes // 7)  # two rows
    for way in ("mapped", "read", "adopted"):
        if way == "adopted":
            monkeypatch.setattr("mlxrun.weights.mapped.COPIED", 1)
            monkeypatch.setattr("mlxrun.weights.mapped.adoption_here", lambda: FakeMetal().adoption)
        found = load_tensors(path, places, reading, mapped=way != "read")
        for name, weight in whole.items():
            for one, other in zip(parts(found[name]), parts(weight), strict=True):
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
                assert np.array_equal(np.array(one.view(mx.uint8)), np.array(other.view(mx.uint8)))


@maps
def test_plain_tensors_are_views_where_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6 * 64, dtype=np.float32).reshape(6, 64)
    path = write(tmp_path / "m.gguf", {"a": ("F32", values), "b": ("F16", values.astype(np.float16))})
    monkeypatch.setattr(gguf_tensors, "COPIED", 1)
    found: dict[str, Weight] = {}
    assert peak_of(lambda: found.update(load_tensors(path, read_gguf(path).tensors))) < values.nbytes // 2
    a, b = found["a"], found["b"]
    assert isinstance(a, mx.array)
    assert isinstance(b, mx.array)
    assert np.array_equal(np.array(a), values)
    assert np.array_equal(np.array(b), values.astype(np.float16))


@maps
@pytest.mark.parametrize("kind", ["Q4_0", "Q6_K", "Q8_0"])
def test_one_tensor_after_the_other(kind: str, tmp_path: Path) -> None:
    raw = blocks(kind, ROWS, WIDTH)
    path = write(tmp_path / "m.gguf", {f"m{number}": (kind, raw) for number in range(MATRICES)})

    def through() -> None:
        weights = load_tensors(path, read_gguf(path).tensors, "fine")
        for name in list(weights):
            mx.eval(*parts(weights.pop(name)))

    assert peak_of(through) < MATRICES * raw.nbytes // 2


@maps
def test_a_large_tensor_takes_little_more_than_twice_what_it_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.gguf", {"m": ("Q6_K", blocks("Q6_K", 16 * ROWS, WIDTH))})
    monkeypatch.setattr(gguf_tensors, "PIECE", 1 << 17)
    made: dict[str, Weight] = {}

    def through() -> None:
        made.update(load_tensors(path, read_gguf(path).tensors, "fine"))
        mx.eval(*parts(made["m"]))

    peak = peak_of(through)
    assert peak < 2.5 * made["m"].nbytes


@maps
def test_a_model_becomes_a_folder_one_tensor_at_a_time(smollm2_gguf: Path, tmp_path: Path) -> None:
    stored = open_checkpoint(smollm2_gguf).bytes
    assert peak_of(lambda: convert_folder(open_checkpoint(smollm2_gguf), tmp_path / "made")) < stored


@pytest.mark.skipif(not this_device().native, reason="the native CPU kernels are not used on this machine")
def test_a_model_is_made_ready_one_tensor_at_a_time(smollm2_gguf: Path, tmp_path: Path) -> None:
    stored = open_checkpoint(smollm2_gguf).bytes
    options = LoadOptions(context=512, ready=tmp_path / "ready")
    assert peak_of(lambda: load_model(smollm2_gguf, options=options)) < stored
    assert list((tmp_path / "ready").glob("*.ready.safetensors"))
