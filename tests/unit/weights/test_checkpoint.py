"""Opening a folder: which files, which dialect, and every way in which a folder can be wrong."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from weight_files import one_sentence, small_gguf, write_folder, write_safetensors

from mlxrun.families.common import Recipe
from mlxrun.families.rules import Rename
from mlxrun.spec import Decoder, ModelError
from mlxrun.weights import open_checkpoint, read_weights

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float16)
INDEX = "model.safetensors.index.json"


def refused(path: Path, words: str, **options: Any) -> None:
    with pytest.raises(ModelError) as error:
        open_checkpoint(path, **options)
    assert words in one_sentence(error.value)


def write_index(folder: Path, places: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "model", {"stale": A})
    (folder / "model.safetensors").rename(folder / "model-00009-of-00009.safetensors")
    write_safetensors(folder / "model-00001-of-00002.safetensors", {"a": A, "moved": B})
    write_safetensors(folder / "model-00002-of-00002.safetensors", {"b": B})
    write_index(folder, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    return folder


def test_one_file(tmp_path: Path) -> None:
    found = open_checkpoint(write_folder(tmp_path, {"a": A, "b": B}, {"model_type": "llama"}))
    assert found.config == {"model_type": "llama"}
    assert found.dialect == "hf"
    assert found.bytes == A.nbytes + B.nbytes
    assert found.shapes == {"a": (2, 3), "b": (4,)}
    assert [file.name for file in found.files] == ["model.safetensors"]
    tensors = found.tensors()
    assert np.array_equal(np.array(tensors["a"]), A)
    assert tensors["b"].dtype == mx.float16


def test_arrays_are_lazy(tmp_path: Path) -> None:
    big = np.zeros((1 << 22,), np.float32)
    folder = write_folder(tmp_path, {"a": big})
    gc.collect()  # nothing of an earlier test is freed between the readings
    before = mx.get_active_memory()
    tensors = open_checkpoint(folder).read_as("mlx", mapped=False).tensors()
    assert mx.get_active_memory() - before < big.nbytes // 100
    mx.eval(tensors["a"])
    assert mx.get_active_memory() - before >= big.nbytes


def test_the_index_decides_what_belongs(sharded: Path) -> None:
    found = open_checkpoint(sharded)
    assert set(found.tensors()) == {"a", "b"}
    assert [file.name[:11] for file in found.files] == ["model-00001", "model-00002"]


def test_without_an_index_all_shards_belong(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert set(open_checkpoint(sharded).tensors()) == {"a", "moved", "b", "stale"}
    write_safetensors(sharded / "model-00003-of-00002.safetensors", {"b": B})
    refused(sharded, "both have the tensor 'b'")


def test_a_stale_broken_shard_is_never_opened(sharded: Path) -> None:
    (sharded / "model-00009-of-00009.safetensors").write_bytes(b"junk")
    assert set(open_checkpoint(sharded).tensors()) == {"a", "b"}


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, "model-00002-of-00002.safetensors', which is missing (1 of 2 are)")


def test_a_missing_tensor(sharded: Path) -> None:
    write_index(sharded, {"a": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"})
    refused(sharded, "places the tensor 'c'")


def test_a_truncated_shard(sharded: Path) -> None:
    file = sharded / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    refused(sharded, "3 bytes past the file's end")


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "", "a\0b", "a\nb", "\ud800", "x" * 5000]
)
def test_an_index_that_names_a_file_elsewhere(name: str, sharded: Path) -> None:
    write_safetensors(sharded.parent / "x.safetensors", {"a": A})
    write_index(sharded, {"a": name})
    with pytest.raises(ModelError) as error:
        open_checkpoint(sharded)
    one_sentence(error.value).encode()


def test_a_link_out_of_the_folder(sharded: Path) -> None:
    file = sharded / "model-00001-of-00002.safetensors"
    file.rename(sharded.parent / "elsewhere.safetensors")
    file.symlink_to(sharded.parent / "elsewhere.safetensors")
    refused(sharded, "a link that leads out")
    file.unlink()
    file.symlink_to(file)
    refused(sharded, "leads nowhere")


def test_the_links_of_a_hub_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--o--n" / "blobs", tmp_path / "models--o--n" / "snapshots" / "abc"
    write_folder(blobs, {"a": A})
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (blobs / name).rename(blobs / f"hash-{name}")
        (snapshot / name).symlink_to(Path("../../blobs") / f"hash-{name}")
    assert set(open_checkpoint(snapshot).tensors()) == {"a"}
    (tmp_path / "latest").symlink_to(snapshot)
    assert set(open_checkpoint(tmp_path / "latest").tensors()) == {"a"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "one JSON object"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b" " * (17 << 20), "not believable"),
    ],
)
def test_a_bad_config(raw: bytes, words: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": A})
    (folder / "config.json").write_bytes(raw)
    refused(folder, words)


def test_no_config_no_weights_no_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", {"a": A})
    (folder / "model.safetensors").unlink()
    refused(folder, "no model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(folder, "pickle")
    (folder / "config.json").unlink()
    refused(folder, "config.json is not in")
    refused(tmp_path / "none", "no model at")
    refused(tmp_path / ("n" * 300), "no model at")
    (tmp_path / "x.txt").write_text("")
    refused(tmp_path / "x.txt", "neither")


@pytest.mark.parametrize("places", [None, {}, [], {"a": 5}, "x"])
def test_a_bad_index(places: Any, sharded: Path) -> None:
    write_index(sharded, places)
    refused(sharded, "weight_map")


@pytest.mark.parametrize(
    ("format", "config", "dialect"),
    [
        ("pt", {}, "hf"),
        ("pt", {"quantization": {"bits": 4, "group_size": 64}}, "hf"),
        ("mlx", {}, "mlx"),
        (None, {}, "hf"),
        (None, {"quantization": {"bits": 4, "group_size": 64}}, "mlx"),
    ],
)
def test_the_dialect_is_what_the_file_says(format: str | None, config: Any, dialect: str, tmp_path: Path) -> None:
    assert open_checkpoint(write_folder(tmp_path, {"a": A}, config, format)).dialect == dialect


def test_a_dialect_that_is_not_known_or_not_one(sharded: Path) -> None:
    write_safetensors(sharded / "model-00002-of-00002.safetensors", {"b": B}, "mlx")
    refused(sharded, "different formats")
    assert open_checkpoint(sharded, dialect="mlx").dialect == "mlx"
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        write_safetensors(sharded / name, {"a": A, "b": B}, "tf")
    refused(sharded, "'tf'")
    assert open_checkpoint(sharded, dialect="hf").dialect == "hf"


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "m.GGUF").write_bytes(small_gguf())
    found = open_checkpoint(tmp_path / "m.GGUF")
    assert found.dialect == "gguf"
    assert found.shapes == {"norm": (8,), "matrix": (2, 32)}
    assert found.bytes == 32 + 68
    assert found.metadata["tokenizer.ggml.tokens"] == ["a", "b", "ß"]


RECIPE = Recipe(Decoder("f", 1, 1, (), None, False, 1), (Rename("^a$", "embed.weight"),))


def test_read_weights(tmp_path: Path) -> None:
    weights = read_weights(open_checkpoint(write_folder(tmp_path, {"a": A})), RECIPE)
    assert np.array_equal(np.array(weights["embed.weight"]), A)


def test_a_weight_of_whole_numbers(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_folder(tmp_path, {"a": np.arange(3, dtype=np.int64)}))
    with pytest.raises(ModelError, match=r"embed\.weight is stored as int64"):
        read_weights(checkpoint, RECIPE)
