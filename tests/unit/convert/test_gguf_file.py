"""GGUF written anew: blocks as the `gguf` package makes them, metadata as it was, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from mlxrun import cli
from mlxrun.convert import gguf_file
from mlxrun.convert.gguf_file import WRITERS, write_gguf
from mlxrun.spec import ModelError
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference
from tests.unit.convert.test_folder import ours
from tests.unit.families import test_gguf_models

KINDS = ("F16", "Q8_0", "Q4_0", "Q4_1")


def made(folder: Path, case: str = "llama_tied") -> Path:
    return test_gguf_models.write(reference(case), test_gguf_models.ARCHITECTURES[case], folder / "m.gguf")


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_those_of_the_package(kind: str) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((64, 96)).astype(np.float32)
    values[0, :32] = 0
    values[1, :32] = 0.5
    values[2] *= 1e-6
    wanted = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    assert WRITERS[kind](values) == wanted.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_reads_it(kind: str, tmp_path: Path) -> None:
    source = made(tmp_path)
    write_gguf(open_checkpoint(source), tmp_path / "out.gguf", kind)
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(tmp_path / "out.gguf")
    assert list(before.fields) == list(after.fields)
    for name, field in before.fields.items():
        if not name.startswith("GGUF.") and name != "general.file_type":
            assert field.types == after.fields[name].types
            assert field.contents() == after.fields[name].contents()
    assert after.fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{kind}"].value
    number = gguf.GGMLQuantizationType[kind]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        plain = gguf.quants.dequantize(old.data, old.tensor_type)
        wanted = gguf.quants.quantize(plain, number) if new.tensor_type == number else plain
        assert np.array_equal(
            new.data.reshape(-1).view(np.uint8), np.ascontiguousarray(wanted).reshape(-1).view(np.uint8)
        )
    assert sum(tensor.tensor_type == number for tensor in after.tensors) > 10


def test_we_read_it(tmp_path: Path) -> None:
    source = made(tmp_path)
    write_gguf(open_checkpoint(source), tmp_path / "out.gguf", "F16")
    np.testing.assert_allclose(ours(tmp_path / "out.gguf"), ours(source), atol=0.02)


def test_interrupted_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path)

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_file, "sync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_gguf(open_checkpoint(source), tmp_path / "out.gguf", "Q8_0")
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    source = made(tmp_path)
    with pytest.raises(ModelError, match="is there already"):
        write_gguf(open_checkpoint(source), source, "Q8_0")


@pytest.mark.parametrize(
    ("more", "said"),
    [(["-o", "x"], "must end in .gguf"), (["-o", "x.gguf", "--quantize", "4"], "leave out the flags of MLX's format")],
)
def test_flags(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", str(made(tmp_path)), "--gguf", "Q8_0", *more]) == 2
    assert said in capsys.readouterr().err
