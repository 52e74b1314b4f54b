"""mlx-lm's GPTQ, AWQ and DWQ on a text that is given: read by mlx-lm and by us, nearer to the source than rounding."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import models, pre_tokenizers

from mlxrun import cli
from mlxrun.convert import calibrated as module
from mlxrun.convert.calibrated import METHODS, calibrate, in_samples
from mlxrun.convert.compare import compare
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.weight_layout import layout
from mlxrun.core import RequestError
from mlxrun.loading import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.unit.convert.test_folder import every, ours, source, theirs
from tests.unit.weights.weight_files import one_sentence

IDS = np.random.default_rng(0).integers(0, 48, 128).tolist()
BITS = 2  # the fewest, where there is the most to gain


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample, few steps; and whoever fetches something fails."""

    def connect(*arguments: Any) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(module, "SEQUENCE", 128)
    monkeypatch.setattr(module, "STEPS", 8)
    monkeypatch.setattr(module, "RATE", 2e-5)


def made(method: str, place: Path, bits: int = BITS, group: int = 32, **more: Any) -> Path:
    target = place.with_name(method)
    convert_folder(open_checkpoint(place), target, by=calibrate(method, IDS, layout(bits, group, "affine"), **more))
    return target


def divergence(place: Path, reference: Path) -> float:
    exact = LoadOptions(device=this_device("exact"))
    return compare(load_model(place, options=exact), load_model(reference, options=exact), IDS).kl


@pytest.mark.parametrize("method", METHODS)
def test_nearer_than_rounding_and_read_by_both(method: str, tmp_path: Path) -> None:
    place = source("llama", tmp_path)
    seen: list[tuple[int, int]] = []
    found = made(method, place, progress=lambda *done: seen.append(done))
    np.testing.assert_allclose(ours(found), theirs(found), atol=5e-5)
    said = json.loads((found / "config.json").read_text())["quantization"]
    assert (said["bits"], said["group_size"]) == (BITS, 32)
    convert_folder(open_checkpoint(place), tmp_path / "plain", wanted=every(BITS, 32))
    assert divergence(found, place) < divergence(tmp_path / "plain", place)
    assert seen
    assert all(0 < done <= total for done, total in seen)


def test_from_a_quantized_checkpoint(tmp_path: Path) -> None:
    convert_folder(open_checkpoint(source("llama", tmp_path)), tmp_path / "eight", wanted=every(8, 32))
    found = made("gptq", tmp_path / "eight", bits=4)
    np.testing.assert_allclose(ours(found), theirs(found), atol=5e-5)


def test_dwq_tells_how_it_goes(tmp_path: Path) -> None:
    lines: list[str] = []
    made("dwq", source("llama", tmp_path), told=lines.append)
    assert [line for line in lines if line.startswith("Validation")]


@pytest.mark.parametrize(
    ("method", "family", "bits", "group", "said"),
    [
        ("gptq", "llama", 3, 32, "gptq has 2, 4, 8 bits, not 3"),
        ("dwq", "llama", 8, 32, "dwq has 2, 3, 4, 5, 6 bits, not 8"),
        ("awq", "qwen3_moe", 4, 32, "AWQ does not know qwen3_moe; it knows .*llama"),
        ("gptq", "llama", 4, 128, "--group asks for other groups"),
        ("gptq", "opt", 4, 32, "has no way with opt"),
    ],
)
def test_what_cannot_be(method: str, family: str, bits: int, group: int, said: str, tmp_path: Path) -> None:
    place = source(family, tmp_path)
    with pytest.raises((ModelError, RequestError), match=said) as error:
        made(method, place, bits, group)
    assert one_sentence(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_their_errors_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(work: Any) -> None:
        raise ValueError("shapes differ\nand more")

    monkeypatch.setitem(module.METHODS, "gptq", broken)
    with pytest.raises(ModelError, match="mlx-lm's gptq failed on this model: shapes differ") as error:
        made("gptq", source("llama", tmp_path))
    assert one_sentence(error.value)


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    from mlx_lm.quant import gptq

    before = gptq.tqdm

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made("gptq", source("llama", tmp_path), progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]
    assert gptq.tqdm is before


def test_samples() -> None:
    assert in_samples(range(300)).shape == (2, 128)
    assert in_samples(range(9)).shape == (1, 9)
    with pytest.raises(RequestError, match="fewer than two tokens"):
        in_samples([1])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = source("llama", tmp_path)
    inner = Inner(models.WordLevel({f"t{i}": i for i in range(48)}, unk_token="t0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.save(str(place / "tokenizer.json"))
    (tmp_path / "text").write_text(" ".join(f"t{i}" for i in IDS))
    flags = ["--method", "gptq", "--quantize", "4", "--group", "32", "--calibration", str(tmp_path / "text")]
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "out"), *flags]) == 0
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "other"), *flags, "--mode", "mxfp4"]) == 2
    assert "--method goes with" in capsys.readouterr().err
    assert cli.main(["convert", str(place), "-o", str(tmp_path / "other"), *flags[-2:]]) == 2
    assert "--calibration is for" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
