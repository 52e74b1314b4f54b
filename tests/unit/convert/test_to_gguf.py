"""Folders written as GGUF files: names, row order and blocks as the `gguf` package has them, read as the same model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from mlxrun import cli
from mlxrun.convert import gguf_file
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.to_gguf import to_gguf
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import Checkpoint, reference, write
from tests.unit.convert.test_folder import every, ours
from tests.unit.convert.writable import CASES, changed, folder_of
from tests.unit.families import test_gguf_models
from tests.unit.weights.weight_files import one_sentence


def halves(name: str) -> Checkpoint:
    """With weights that float16 holds."""
    checkpoint = changed(reference(name).checkpoint())
    weights = {key: value.astype(np.float16).astype(np.float32) for key, value in checkpoint.weights.items()}
    return Checkpoint(checkpoint.config, weights)


def in_halves(name: str, place: Path) -> Path:
    return write(halves(name), place)


def written(place: Path, kind: str = "F16") -> Path:
    target = place.with_name(f"{kind}.gguf")
    to_gguf(open_checkpoint(place), target, kind)
    return target


@pytest.mark.parametrize("name", CASES)
def test_it_is_read_as_the_same_model(name: str, tmp_path: Path) -> None:
    place = in_halves(name, tmp_path / "m")
    np.testing.assert_allclose(ours(written(place)), ours(place), atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name in test_gguf_models.ARCHITECTURES])
def test_tensors_are_those_of_llama_cpp_s_converter(name: str, tmp_path: Path) -> None:
    """The package's names, and row orders that the test of reading has spelled out. F16 of what F16 holds is exact."""
    known: Any = SimpleNamespace(config=halves(name).config, checkpoint=lambda: halves(name))
    wanted = test_gguf_models.tensors_of(known, test_gguf_models.ARCHITECTURES[name])
    factors = test_gguf_models.rope_factors(known.config)
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(written(in_halves(name, tmp_path / "m"))).tensors}
    assert set(read) == set(wanted) | set(factors)
    for key, value in wanted.items():
        found = gguf.quants.dequantize(read[key].data, read[key].tensor_type).reshape(value.shape)
        np.testing.assert_array_equal(found, value, err_msg=key)
    for key, value in factors.items():
        np.testing.assert_allclose(read[key].data, value, rtol=1e-6)


def test_metadata_is_what_the_converter_writes(tmp_path: Path) -> None:
    for name in ("llama", "granite", "gemma2", "mixtral", "gpt2"):
        known = reference(name)
        known.config.update(changed(known.checkpoint()).config)
        arch = test_gguf_models.ARCHITECTURES[name]
        theirs = gguf.GGUFReader(test_gguf_models.write(known, arch, tmp_path / f"{name}.gguf"))
        mine = gguf.GGUFReader(written(folder_of(name, tmp_path / name / "m")))
        for key, field in theirs.fields.items():
            if key.startswith(f"{arch}."):
                assert mine.fields[key].contents() == field.contents(), key
                assert mine.fields[key].types == field.types, key


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_blocks_are_those_of_the_package(kind: str, tmp_path: Path) -> None:
    """Phi 3's fused rows too, in chunks that do not end with a tensor."""
    place, number = folder_of("phi3", tmp_path / "m"), gguf.GGMLQuantizationType[kind]
    source = load_file(place / "model.safetensors")
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(written(place, kind)).tensors}
    for theirs, mine in (("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up"), ("mlp.down_proj", "")):
        value = source[f"model.layers.1.{theirs}.weight"]
        found = read[f"blk.1.{mine or 'ffn_down'}.weight"]
        assert found.tensor_type == number
        assert np.array_equal(found.data.reshape(-1), gguf.quants.quantize(value, number).reshape(-1))


def test_in_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder_of("qwen3_moe", tmp_path / "m")
    whole = written(place, "Q8_0").read_bytes()
    monkeypatch.setattr(gguf_file, "CHUNK", 100)
    (tmp_path / "Q8_0.gguf").unlink()
    assert written(place, "Q8_0").read_bytes() == whole


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3_moe"])
def test_from_quantized_weights(name: str, tmp_path: Path) -> None:
    convert_folder(open_checkpoint(folder_of(name, tmp_path / "m")), tmp_path / "small", wanted=every(8, 32))
    np.testing.assert_allclose(ours(written(tmp_path / "small")), ours(tmp_path / "small"), atol=0.02)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    rows = {f"blk.{i}.ffn_up.weight": mx.random.normal((512, 512)) for i in range(32)}
    mx.save_safetensors(str(tmp_path / "stored.safetensors"), rows)
    rows.clear()
    lazy = mx.load(str(tmp_path / "stored.safetensors"))
    tensors: dict[str, Any] = {name: ((lazy.pop(name) * 2),) for name in list(lazy)}
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    gguf_file.write_file(tmp_path / "x.gguf", gguf_file.encode_metadata({}), tensors, "Q8_0")
    assert mx.get_peak_memory() - before < 6 * 512 * 512 * 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("deepseek_v3", "'deepseek_v3' cannot be written as a GGUF file; .*qwen3_moe"),
        ("qwen2_window", "window, 8, would be read as None"),
        ("qwen3_moe_plain", "Dense, would be read as MoE"),
    ],
)
def test_what_cannot_be_written(name: str, said: str, tmp_path: Path) -> None:
    place = write(reference(name).checkpoint(), tmp_path / "m")
    with pytest.raises(ModelError, match=said) as error:
        written(place)
    assert one_sentence(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    checkpoint = reference("llama").checkpoint()
    checkpoint.weights["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e6
    place = write(checkpoint, tmp_path / "m")
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight has values that float16 cannot hold"):
        written(place)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_interrupted_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder_of("llama", tmp_path / "m")

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_gguf(open_checkpoint(place), tmp_path / "x.gguf", "Q8_0", progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder_of("llama", tmp_path / "m")
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "x.gguf")]) == 0
    assert gguf.GGUFReader(tmp_path / "x.gguf").fields["general.file_type"].contents() == 1
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "x.gguf"), "--gguf", "Q8_0"]) == 2
    assert "is there already" in capsys.readouterr().err
