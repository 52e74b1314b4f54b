"""Quantized copies: made once by what `convert` has, made anew when the model changes, gone with it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mlx.core as mx
import pytest

from mlxrun.cli import quantize, run
from mlxrun.convert import cached
from mlxrun.convert.cached import make_quantized_copy
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.weight_layout import everywhere, layout, sparing
from mlxrun.core import RequestError
from mlxrun.loading import load_model, open_model
from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store.remove import remove
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write

HOW = sparing(layout(4, 32, "affine"), keep=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(reference("llama").checkpoint(), tmp_path / "home" / "models" / "tiny")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def flags(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.configure(parser)
    return parser.parse_args(["tiny", *words])


def test_it_is_what_convert_writes_and_it_loads(model: Path, settings: Settings, tmp_path: Path) -> None:
    copy = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    convert_folder(open_checkpoint(model), tmp_path / "out", wanted=HOW)
    assert {file.name for file in copy.iterdir()} == {file.name for file in (tmp_path / "out").iterdir()}
    for file in copy.iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    small = load_model(copy)
    hidden = small(mx.array([3, 17, 44]), [(small.new_sequence(8), 3)])
    assert bool(mx.isfinite(small.logits(hidden)).all())


def test_the_second_time_nothing_is_made(model: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    monkeypatch.setattr(cached, "convert_folder", lambda *a, **k: pytest.fail("made twice"))
    assert make_quantized_copy(open_checkpoint(model), HOW, settings.quantized) == first


def test_another_layout_stands_beside_it(model: Path, settings: Settings) -> None:
    copies = {
        make_quantized_copy(open_checkpoint(model), everywhere(layout(bits, 32, "affine")), settings.quantized)
        for bits in (4, 8)
    }
    assert {open_checkpoint(copy).config["quantization"]["bits"] for copy in copies} == {4, 8}
    assert sum(1 for p in settings.quantized.iterdir() if p.is_dir()) == 2


def test_a_changed_model_is_quantized_anew_and_the_old_copy_goes(model: Path, settings: Settings) -> None:
    old = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    os.utime(model / "model.safetensors", ns=(1, 1))
    new = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    assert new != old
    assert [p for p in settings.quantized.iterdir() if p.is_dir()] == [new]


def test_what_is_interrupted_leaves_nothing(model: Path, settings: Settings) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_quantized_copy(open_checkpoint(model), HOW, settings.quantized, progress=stop)
    assert not [p for p in settings.quantized.iterdir() if p.is_dir()]
    (settings.quantized / ".killed.making").mkdir()
    copy = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    assert [p for p in settings.quantized.iterdir() if p.is_dir()] == [copy]


def test_the_longest_unused_copy_goes_beyond_the_bound(model: Path, settings: Settings) -> None:
    copies = [
        make_quantized_copy(open_checkpoint(model), everywhere(layout(bits, 32, "affine")), settings.quantized)
        for bits in (8, 6, 4)
    ]
    for age, copy in enumerate(copies):
        os.utime(copy, (age, age))
    size = sum(file.stat().st_size for copy in (copies[0], copies[2]) for file in copy.iterdir())
    cached._forget(settings.quantized, keep=copies[0], stale=(), most=size)
    assert [copy.is_dir() for copy in copies] == [True, False, True]


def test_it_goes_with_the_model(model: Path, settings: Settings) -> None:
    copy = make_quantized_copy(open_checkpoint(model), HOW, settings.quantized)
    size = sum(file.stat().st_size for file in copy.iterdir())
    assert remove("tiny", settings).made >= size
    assert not copy.exists()


def test_the_flags(model: Path, settings: Settings) -> None:
    opened = open_model(model)
    assert quantize.copy_of(opened, flags(), settings) is opened
    asked = flags("--quantize", "4", "--group", "32", "--dialect", "hf")
    copy = quantize.copy_of(opened, asked, settings)
    assert (copy.checkpoint.dialect, copy.checkpoint.config["quantization"]["bits"]) == ("mlx", 4)
    for words in (["--group", "64"], ["--quantize", "7"], ["--quantize", "4", "--group", "48"]):
        with pytest.raises(RequestError):
            quantize.copy_of(opened, flags(*words), settings)


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="could not be written"):
        make_quantized_copy(open_checkpoint(model), HOW, tmp_path / "file" / "quantized")
