"""GGUF written anew: blocks as the `gguf` package makes them, metadata as it was, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from mlxrun import cli
from mlxrun.convert import aside
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


def in_parts(whole: Path, folder: Path) -> list[Path]:
    """As llama.cpp's own splitter cuts a file: everything is said in the first part."""
    reader = gguf.GGUFReader(whole)
    parts = [reader.tensors[:5], reader.tensors[5:9], reader.tensors[9:]]
    files = [folder / f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    for number, (file, tensors) in enumerate(zip(files, parts, strict=True)):
        writer = gguf.GGUFWriter(file, "llama")
        for key, field in reader.fields.items() if number == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                writer.add_key_value(key, field.contents(), field.types[0])
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 3)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data)
        test_gguf_models.finished(writer, file)
    return files


@pytest.mark.parametrize("named", [0, 2])
def test_parts_become_one_file(named: int, tmp_path: Path) -> None:
    whole = made(tmp_path)
    write_gguf(open_checkpoint(whole), tmp_path / "whole.gguf", "Q8_0")
    files = in_parts(whole, tmp_path)
    assert cli.main(["convert", str(files[named]), "--gguf", "Q8_0", "-o", str(tmp_path / "out.gguf")]) == 0
    wanted, found = gguf.GGUFReader(tmp_path / "whole.gguf"), gguf.GGUFReader(tmp_path / "out.gguf")
    keys = [key for key in wanted.fields if not key.startswith("GGUF.")]
    assert [key for key in found.fields if not key.startswith("GGUF.")] == keys
    for key in keys:
        assert found.fields[key].contents() == wanted.fields[key].contents()
    assert [(t.name, t.tensor_type) for t in found.tensors] == [(t.name, t.tensor_type) for t in wanted.tensors]
    for one, other in zip(found.tensors, wanted.tensors, strict=True):
        assert np.array_equal(one.data, other.data)


def test_biases_of_experts_stay_as_they_are(tmp_path: Path) -> None:
    write_gguf(open_checkpoint(made(tmp_path, "gpt_oss")), tmp_path / "out.gguf", "Q8_0")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert (kinds["blk.0.ffn_up_exps.weight"], kinds["blk.0.ffn_up_exps.bias"]) == ("Q8_0", "F32")


def test_interrupted_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path)

    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(aside, "sync", stop)
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
