"""What a copy lost is measured as `compare` measures it, told, and kept; what hurts most gets more bits."""

from __future__ import annotations

import io
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun import cli
from mlxrun.convert import loss
from mlxrun.convert.compare import compare
from mlxrun.convert.folder import convert_folder
from mlxrun.convert.weight_layout import Wanted, everywhere, layout, sparing
from mlxrun.loading import LoadOptions, load_opened, open_model
from mlxrun.loading.open import OpenedModel
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write
from tests.server.tiny import write_tiny

IDS = np.random.default_rng(3).integers(0, 48, 150).tolist()


def opened(place: Path) -> OpenedModel:
    return open_model(place, device=this_device("exact"))


def converted(place: Path, target: Path, wanted: Wanted) -> Path:
    convert_folder(open_checkpoint(place).read_as("fine"), target, wanted=wanted)
    return target


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(reference("llama").checkpoint(), tmp_path / "llama")


def test_as_compare_measures_it(llama: Path, tmp_path: Path) -> None:
    copy = converted(llama, tmp_path / "copy", everywhere(layout(3, 32, "affine")))
    found = loss.measure(opened(llama), opened(copy), IDS)
    models = [load_opened(opened(place), LoadOptions()) for place in (copy, llama)]
    told = compare(*models, IDS)
    assert found.tokens == told.tokens == 149
    assert found.kl == pytest.approx(told.kl, rel=1e-3)
    assert found.kl > 0
    assert found.perplexity == pytest.approx(told.perplexity, rel=1e-4)
    assert found.reference_perplexity == pytest.approx(told.reference_perplexity, rel=1e-4)
    assert found.same == pytest.approx(told.top1)


def test_it_is_kept_beside_the_copy(tmp_path: Path) -> None:
    assert loss.kept(tmp_path) is None
    found = loss.Loss(0.2, 20.0, 18.0, 0.9, 255)
    loss.keep(found, tmp_path)
    assert loss.kept(tmp_path) == found
    (tmp_path / loss.FILE).write_text('{"kl": 1}')
    assert loss.kept(tmp_path) is None


@pytest.mark.parametrize(
    ("kl", "said"), [(0.01, "for 90%."), (0.2, "answers will be worse"), (2.0, "to repeat itself or to write nonsense")]
)
def test_what_is_said(kl: float, said: str) -> None:
    told = str(loss.Loss(kl, 20.0, 18.0, 0.9, 255))
    assert said in told
    assert ("More bits" in told) is (kl > loss.MUCH)


@pytest.mark.parametrize(
    ("family", "words"), [("llama", {"model.embed_tokens", "lm_head"}), ("gemma2", {"model.embed_tokens"})]
)
def test_embedding_and_head_get_more_bits(family: str, words: set[str], tmp_path: Path) -> None:
    place = write(reference(family).checkpoint(), tmp_path / family)
    out = converted(place, tmp_path / "out", sparing(layout(4, 32, "affine"), keep=True))
    said = json.loads((out / "config.json").read_text())["quantization"]
    finer = {name for name, value in said.items() if isinstance(value, dict) and value["bits"] == 6}
    assert finer == words
    assert said["bits"] == 4


def test_what_has_so_few_bits_already_is_not_rounded_again(llama: Path, tmp_path: Path) -> None:
    first = converted(llama, tmp_path / "first", sparing(layout(4, 32, "affine"), keep=True))
    again = converted(first, tmp_path / "again", sparing(layout(4, 64, "affine"), keep=True))
    anew = converted(first, tmp_path / "anew", sparing(layout(3, 32, "affine"), keep=True))
    before, after, other = (mx.load(str(place / "model.safetensors")) for place in (first, again, anew))
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    assert any(before[name].shape != other[name].shape for name in before if name.endswith("q_proj.weight"))


@pytest.fixture
def speaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small one whose copy lost too much, whatever it lost."""
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loss, "MUCH", 0.0)
    monkeypatch.setattr(loss, "TOO_MUCH", 0.0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    return str(write_tiny(tmp_path / "tiny", 256))


def test_convert_says_it(speaking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["convert", speaking, "-o", out, "--quantize", "2", "--group", "32"]) == 0
    assert "to write nonsense" in capsys.readouterr().err
    found = loss.kept(tmp_path / "out")
    assert found is not None
    assert found.kl > 0
    assert cli.main(["convert", speaking, "-o", str(tmp_path / "b"), "--recipe", "uniform"]) == 2
    assert "--recipe uniform is for --quantize" in capsys.readouterr().err


def test_a_run_says_it_every_time(
    speaking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        command = ["run", speaking, "hi", "--quantize", "2", "--group", "32", "--no-map", "--max-tokens", "1"]
        assert cli.main(command) == 0
        assert "to write nonsense" in capsys.readouterr().err
        monkeypatch.setattr(loss, "measure", lambda *given: pytest.fail("measured twice"))


def test_a_model_that_cannot_be_measured_is_told(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: object) -> None:
        raise ModelError("It has no room.")

    monkeypatch.setattr(loss, "measure", refuse)
    monkeypatch.setattr(
        "mlxrun.assistant.tokenizer_of", lambda checkpoint: type("T", (), {"encode": lambda *a, **k: IDS})
    )
    assert cli.main(["convert", str(llama), "-o", str(tmp_path / "out"), "--quantize", "4", "--group", "32"]) == 0
    assert "was not measured: It has no room." in capsys.readouterr().err
