"""What `convert` writes: read by mlx-lm and by our loader with the same logits, and all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun import cli
from mlxrun.compat import quiet_import
from mlxrun.convert import folder as folder_module
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.stream import write_model
from mlxrun.convert.weight_layout import Wanted, layout
from mlxrun.core import RequestError
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write
from tests.unit.weights.weight_files import one_sentence

FAMILIES = ("llama", "qwen3_moe", "deepseek_v3", "qwen3_next")
PROMPT = [3, 17, 44, 9, 41, 28, 5]


def every(bits: int | None, group: int | None = None, mode: str = "affine") -> Wanted:
    how = layout(bits, group, mode)
    return Wanted(how, lambda module, shape: how)


def theirs(place: Path) -> np.ndarray:
    with quiet_import():
        from mlx_lm.utils import load_model as load
    model, _ = load(place)
    return np.array(model(mx.array([PROMPT]))[0].astype(mx.float32))


def ours(place: Path) -> np.ndarray:
    model = load_model(place, dtype=mx.float32, options=LoadOptions(device=this_device("exact")))
    hidden = model(mx.array(PROMPT), [(model.new_sequence(16), len(PROMPT))])
    return np.array(hidden if model.spec.kind == "encoder" else model.logits(hidden))


def source(name: str, folder: Path) -> Path:
    return write(reference(name).checkpoint(), folder / "source")


@pytest.mark.parametrize("name", FAMILIES)
def test_mlx_lm_and_we_compute_the_same(name: str, tmp_path: Path) -> None:
    convert_folder(open_checkpoint(source(name, tmp_path)), tmp_path / "out", wanted=every(8, 32))
    assert open_checkpoint(tmp_path / "out").dialect == "mlx"
    np.testing.assert_allclose(ours(tmp_path / "out"), theirs(tmp_path / "out"), atol=5e-5)


@pytest.mark.parametrize(("bits", "group", "mode"), [(4, 32, "affine"), (3, 32, "affine"), (None, None, "mxfp4")])
def test_codes_are_mlx_s_own(bits: int | None, group: int | None, mode: str, tmp_path: Path) -> None:
    """And what cannot be quantized is as it was."""
    place = source("llama", tmp_path)
    convert_folder(open_checkpoint(place), tmp_path / "out", wanted=every(bits, group, mode))
    before, after = (mx.load(str(p / "model.safetensors")) for p in (place, tmp_path / "out"))
    quantized = 0
    for name, weight in before.items():
        scales = f"{name.removesuffix('weight')}scales"
        if scales not in after:
            assert mx.array_equal(after[name], weight)
            continue
        quantized += 1
        wanted = mx.quantize(weight, group_size=group or 32, bits=bits or 4, mode=mode)
        for part, other in zip(("weight", "scales", "biases"), wanted, strict=False):
            assert mx.array_equal(after[name.removesuffix("weight") + part], other), name
    assert quantized > 10


def test_without_quantizing_weights_stay(tmp_path: Path) -> None:
    place = source("llama", tmp_path)
    convert_folder(open_checkpoint(place), tmp_path / "out")
    np.testing.assert_array_equal(ours(place), ours(tmp_path / "out"))
    assert "quantization" not in json.loads((tmp_path / "out/config.json").read_text())


def test_what_is_quantized_is_kept_bit_for_bit(tmp_path: Path) -> None:
    convert_folder(open_checkpoint(source("llama", tmp_path)), tmp_path / "a", wanted=every(6, 32))
    convert_folder(open_checkpoint(tmp_path / "a"), tmp_path / "b")
    first, second = (mx.load(str(tmp_path / name / "model.safetensors")) for name in "ab")
    assert set(first) == set(second)
    assert all(mx.array_equal(first[name], second[name]) for name in first)
    a, b = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert a["quantization"] == b["quantization"]


def test_modules_of_their_own(tmp_path: Path) -> None:
    usual, fine = layout(4, 32, "affine"), layout(8, 64, "affine")

    def choose(module: str, shape: tuple[int, ...]) -> Any:
        return fine if module.endswith("q_proj") else None if "embed" in module else usual

    convert_folder(open_checkpoint(source("llama", tmp_path)), tmp_path / "out", wanted=Wanted(usual, choose))
    np.testing.assert_allclose(ours(tmp_path / "out"), theirs(tmp_path / "out"), atol=5e-5)
    said = json.loads((tmp_path / "out/config.json").read_text())["quantization"]
    assert [key for key, value in said.items() if value is False] == ["model.embed_tokens"]
    own = {key: value for key, value in said.items() if isinstance(value, dict)}
    assert len(own) == 4
    assert all(key.endswith("q_proj") and value["bits"] == 8 for key, value in own.items())


def test_dtype(tmp_path: Path) -> None:
    convert_folder(open_checkpoint(source("llama", tmp_path)), tmp_path / "out", wanted=every(4), dtype=mx.bfloat16)
    kinds = {array.dtype for array in mx.load(str(tmp_path / "out/model.safetensors")).values()}
    assert kinds == {mx.bfloat16, mx.uint32}


def test_shards_and_their_index(tmp_path: Path) -> None:
    arrays = {f"layers.{i}.weight": mx.full((64, 64), float(i)) for i in range(5)}
    sizes: list[tuple[int, int]] = []
    write_model(tmp_path, dict(arrays), shard=40_000, progress=lambda *done: sizes.append(done))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert index["metadata"]["total_size"] == 5 * 64 * 64 * 4
    (tmp_path / "config.json").write_text("{}")
    read = open_checkpoint(tmp_path).tensors()
    assert all(mx.array_equal(read[name], array) for name, array in arrays.items())
    assert sizes[-1] == (5 * 64 * 64 * 4, 5 * 64 * 64 * 4)


def test_only_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    mx.save_safetensors(
        str(tmp_path / "stored.safetensors"), {f"w{i}": mx.random.normal((512, 512)) for i in range(32)}
    )
    lazy = mx.load(str(tmp_path / "stored.safetensors"))
    tensors = {name: (lazy.pop(name) * 2).astype(mx.float16) for name in list(lazy)}
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    write_model(tmp_path, tensors)
    assert mx.get_peak_memory() - before < 6 * 512 * 512 * 4


@pytest.mark.parametrize("broken", ["write_model", "copy_others"])
def test_interrupted_it_leaves_nothing(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = source("llama", tmp_path)

    def stop(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, broken, stop)
    with pytest.raises(KeyboardInterrupt):
        convert_folder(open_checkpoint(place), tmp_path / "out", wanted=every(4))
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    place = source("llama", tmp_path)
    with pytest.raises(ModelError) as error:
        convert_folder(open_checkpoint(place), place)
    assert "is there already" in one_sentence(error.value)


def test_a_family_that_mlx_lm_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        convert_folder(open_checkpoint(source("opt", tmp_path)), tmp_path / "out")
    assert "no way with opt" in one_sentence(error.value)
    assert not (tmp_path / "out").exists()


def test_biases_that_mlx_lm_would_lose(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        convert_folder(open_checkpoint(source("ernie4_5_moe", tmp_path)), tmp_path / "out")
    assert "no place for model.layers.1.mlp.moe_statics.e_score_correction_bias" in one_sentence(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("bits", "group", "mode", "said"),
    [(7, None, "affine", "not 7 in"), (4, 16, "affine", "not 4 in"), (8, None, "nvfp4", "nvfp4 has 4 bits in")],
)
def test_layouts_that_are_not(bits: int, group: int | None, mode: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        layout(bits, group, mode)
    assert said in one_sentence(error.value)


def test_a_group_alone_does_not_say_how_many_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write(reference("llama").checkpoint(), tmp_path / "source")
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "out"), "--group", "32"]) == 2
    assert "--group is for --quantize" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_the_copy_is_without_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = reference("glm4_moe").checkpoint()
    layers = found.config["num_hidden_layers"]
    found.weights[f"model.layers.{layers}.enorm.weight"] = np.ones(found.config["hidden_size"], np.float32)
    place = write(found, tmp_path / "source")
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "out")]) == 0
    assert "It is without multi-token prediction: mlx-lm's files have no place for that." in capsys.readouterr().err
    plain = write(reference("llama").checkpoint(), tmp_path / "plain")
    assert cli.main(["convert", str(plain), "-o", str(tmp_path / "whole")]) == 0
    assert "It is without" not in capsys.readouterr().err
