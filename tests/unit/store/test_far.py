"""Planning for a model of the hub from its headers alone, against a hub that answers, refuses, breaks off and lies."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from gguf import GGUFReader, GGUFWriter

from mlxrun import cli
from mlxrun.store import catalogue, far
from tests.golden.checkpoint import Checkpoint, reference, write
from tests.unit.families import test_gguf_models
from tests.unit.store.fake_hub import REFUSALS, FakeHub, the_only_hub
from tests.unit.weights.foreign_files import packed_integers

MACHINE = ("--on", "M4 Pro 24GB")
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(write(reference("llama").checkpoint(), tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(write(reference("mixtral").checkpoint(), tmp_path_factory.mktemp("sharded"), shards=3))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    case = "phi3_longrope_long"  # its rope is in tensors
    file = tmp_path_factory.mktemp("gguf") / "m.gguf"
    test_gguf_models.write(reference(case), test_gguf_models.ARCHITECTURES[case], file)
    return files_of(file.parent)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with the_only_hub(FakeHub({"README.md": b"hello"}), tmp_path, monkeypatch) as fake:
        yield fake
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "hub").exists()


def files_of(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def planned(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code = cli.main(["fit", *map(str, words), "--json"])
    said = capsys.readouterr()
    assert code in (0, 1), said.err
    found = json.loads(said.out)
    found.pop("model")
    for here in ("machine", "free", "advice"):  # what is free changes from one moment to the next
        found.pop(here) if "--on" not in words else None
    return dict(found)


def refused(capsys: pytest.CaptureFixture[str], name: str = "org/name") -> str:
    assert cli.main(["fit", name, *MACHINE]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1, said.err
    assert said.err.endswith(".\n")
    return said.err


def stored(files: Files, folder: Path) -> Path:
    folder.mkdir()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return folder


@pytest.mark.parametrize("machine", [MACHINE, ()], ids=["a Mac", "here"])
@pytest.mark.parametrize("ignores", [False, True], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("kind", ["plain", "sharded", "gguf"])
def test_the_plan_is_that_of_the_downloaded_model(
    kind: str,
    ignores: bool,
    machine: tuple[str, ...],
    there: FakeHub,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(far, "FIRST", 512)
    files = request.getfixturevalue(kind)
    there.files |= files
    there.ignores_ranges = ignores
    assert planned(capsys, "org/name", *machine) == planned(capsys, stored(files, tmp_path / "here"), *machine)


@pytest.mark.parametrize("kind", ["plain", "sharded", "gguf"])
def test_only_headers_are_asked_for(
    kind: str,
    there: FakeHub,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(far, "FIRST", 512)
    there.files |= request.getfixturevalue(kind)
    planned(capsys, "org/name", *MACHINE)
    large = {name: raw for name, raw in there.files.items() if name.endswith((".safetensors", ".gguf"))}
    asked = 0
    for name, _, extent in (line.partition(" ") for line in there.ranges):
        first, last = extent.removeprefix("bytes=").split("-")
        asked += min(int(last) + 1, len(large[name])) - int(first) if name in large else 0
    headers = sum(8 + struct.unpack("<Q", raw[:8])[0] for name, raw in large.items() if name.endswith(".safetensors"))
    assert 0 < asked < (headers or 16384) + 512 * len(large) < sum(map(len, large.values()))
    assert not any("README" in line for line in there.asked)


def test_a_short_name_leads_to_the_hub(
    plain: Files, there: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalogue.CATALOGUE, "tiny:1m", catalogue.Listed(1e6, "org/name-{}bit", (4,)))
    there.files |= plain
    planned(capsys, "tiny:1m", *MACHINE)
    assert any("org/name-4bit" in line for line in there.asked)


def test_values_that_decide_a_form_are_fetched(
    there: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = reference("llama").checkpoint()
    tensors: dict[str, Any] = {}
    for name, value in made.weights.items():
        if "_proj." in name and value.shape[1] % 32 == 0:
            tensors |= packed_integers(4, act_order="q_proj" in name)(name.removesuffix(".weight"), value)[0]
        else:
            tensors[name] = value
    said = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"0": {"weights": {"num_bits": 4, "type": "int"}}, "1": {"weights": {"num_bits": 8}}},
    }
    folder = write(Checkpoint({**made.config, "quantization_config": said}, tensors, "pt"), tmp_path / "packed")
    assert any(name.endswith("weight_g_idx") for name in tensors)
    there.files |= files_of(folder)
    assert planned(capsys, "org/name", *MACHINE) == planned(capsys, folder, *MACHINE)


def test_parts_of_a_gguf_file(there: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case, place = "llama_tied", tmp_path / "parts"
    place.mkdir()
    whole = test_gguf_models.write(reference(case), test_gguf_models.ARCHITECTURES[case], tmp_path / "whole.gguf")
    for part in halved(whole, place):
        there.files[f"deep/{part.name}"] = part.read_bytes()
    first = next(iter(sorted(place.iterdir())))
    assert planned(capsys, "org/name", *MACHINE) == planned(capsys, first, *MACHINE)
    del there.files[f"deep/{first.name.replace('-00001', '-00002')}"]
    assert "lacks 1 of the parts of deep/m-00001-of-00002.gguf" in refused(capsys)


def halved(whole: Path, folder: Path) -> list[Path]:
    """As llama.cpp splits a file: the first part has all metadata."""
    source, found = GGUFReader(whole), []
    for number in range(2):
        path = folder / f"m-{number + 1:05}-of-00002.gguf"
        writer = GGUFWriter(str(path), "llama")
        for field in source.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                kind = field.types[0]
                writer.add_key_value(
                    field.name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None
                )
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(source.tensors))
        for tensor in source.tensors[number::2]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found.append(path)
    return found


def test_one_of_several_files_is_named(gguf: Files, there: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    there.files |= {"a.gguf": gguf["m.gguf"], "b.gguf": gguf["m.gguf"], "mmproj-a.gguf": b"GGUF"}
    assert "name one, as org/name/a.gguf: a.gguf, b.gguf" in refused(capsys)
    assert planned(capsys, "org/name/b.gguf", *MACHINE)["weights"]["bytes"] > 0
    assert "has no file c.gguf" in refused(capsys, "org/name/c.gguf")


# ---- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code", "told"), REFUSALS)
@pytest.mark.parametrize("file", [None, "model.safetensors"], ids=["at once", "at the weights"])
def test_refusals(
    status: int, code: str | None, told: str, file: str | None, plain: Files, there: FakeHub, capsys: Any
) -> None:
    there.files |= plain
    there.code = code
    if file is None:
        there.status = status
    else:
        there.refuses[file] = status
    assert told in refused(capsys)


def test_it_stops_midway(plain: Files, there: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    there.files |= plain
    there.stops_after = 100
    assert "org/name" in refused(capsys)


def test_offline_nothing_is_asked(plain: Files, there: FakeHub, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there.files |= plain
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in refused(capsys)
    assert there.asked == []


@pytest.mark.parametrize("claimed", [0, 1, 100, 1 << 20, 1 << 30, 1 << 62, (1 << 64) - 1])
def test_a_header_lies_about_its_length(claimed: int, plain: Files, there: FakeHub, capsys: Any) -> None:
    raw = plain["model.safetensors"]
    there.files |= {**plain, "model.safetensors": struct.pack("<Q", claimed) + raw[8:]}
    assert "model.safetensors" in refused(capsys)


def test_damage(plain: Files, sharded: Files, gguf: Files, there: FakeHub, capsys: Any) -> None:
    there.files = {**plain, "model.safetensors": b""}
    refused(capsys)
    there.files = {**plain, "config.json": b"{"}
    assert "config.json is not valid JSON" in refused(capsys)
    there.files = {name: raw for name, raw in sharded.items() if "00002" not in name}
    assert "which is missing" in refused(capsys)
    there.files = {**sharded, "model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}'}
    assert "not inside the model's folder" in refused(capsys)
    there.files = {"m.gguf": gguf["m.gguf"][:3000]}
    assert "m.gguf" in refused(capsys)
    there.files = {"m.gguf": b"GGUF" + bytes(100)}
    assert "m.gguf" in refused(capsys)
    there.files = {"README.md": b"hello"}
    assert "holds no model that is read" in refused(capsys)
    there.files = {"model.safetensors": plain["model.safetensors"]}
    assert "has no config.json" in refused(capsys)
    there.files = {"config.json": plain["config.json"], "adapter.safetensors": plain["model.safetensors"]}
    assert "has no model.safetensors" in refused(capsys)


def test_a_hub_that_cannot_be_reached(there: FakeHub, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(capsys)
