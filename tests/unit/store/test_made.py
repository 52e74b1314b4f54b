"""Copies of models and whose they are: `list` shows them, `rm` says what went, `verify` reads them, `prune` tidies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mlxrun.cli import main
from mlxrun.convert.cached import make_quantized_copy
from mlxrun.convert.weight_layout import everywhere, layout
from mlxrun.loading import checksums, provenance, ready
from mlxrun.loading.load import LoadOptions, load_model
from mlxrun.ops.device import this_device
from mlxrun.settings import Settings, from_environment
from mlxrun.store.made import everything
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference, write

pytestmark = pytest.mark.skipif(not this_device().native, reason="no native kernels here, so nothing is packed or kept")
HOW = everywhere(layout(4, 32, "affine"))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(ready, "LEAST", 0)
    monkeypatch.setattr(ready, "SPARE", 0)
    return from_environment()


def model(place: Path, settings: Settings) -> Path:
    """The ready file that was made of a model at that place."""
    before = set(settings.ready.glob("*"))
    load_model(write(reference("llama").checkpoint(), place), options=LoadOptions(ready=settings.ready))
    return kept(settings, before)


def kept(settings: Settings, before: set[Path]) -> Path:
    (file,) = (f for f in settings.ready.glob(f"*{ready.SUFFIX}") if f not in before)
    return file


def size(place: Path) -> str:
    from mlxrun.cli.show import size as told

    return told(sum(file.stat().st_size for file in (place.iterdir() if place.is_dir() else [place])))


def test_a_file_says_whose_it_is(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = model(Path("mine"), settings)  # as a person in that folder names it
    owner = ready.owner_of(file)
    assert owner is not None
    assert owner.place == tmp_path / "mine"
    assert tmp_path / "mine" / "config.json" in owner.files
    monkeypatch.chdir("/")
    assert ready.outdated(file) is None


def test_list_shows_what_was_made_of_what(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, elsewhere = model(settings.models / "own", settings), model(tmp_path / "elsewhere", settings)
    assert main(["list"]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    own_size = size(settings.models / "own")
    assert first.split() == f"own {own_size} + {size(own)} made of it {settings.models / 'own'}".split()
    assert second.split() == f"+ {size(elsewhere)} made of {tmp_path / 'elsewhere'}".split()
    shutil.rmtree(tmp_path / "elsewhere")
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert str(tmp_path / "elsewhere") not in told
    assert f"{size(elsewhere)} in 1 copies will never be used again; mlxrun prune removes them." in told


def test_prune_takes_what_will_never_be_used(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = model(settings.models / "good", settings)
    gone, changed = model(tmp_path / "gone", settings), model(tmp_path / "changed", settings)
    shutil.rmtree(tmp_path / "gone")
    os.utime(tmp_path / "changed" / "config.json", (1, 1))
    broken = settings.ready / f"{'0' * 16}-{'0' * 16}{ready.SUFFIX}"
    broken.write_bytes(bytes(100))
    assert main(["prune", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"{gone}  {size(gone)}: {tmp_path / 'gone'} is gone" in told
    assert f"{changed}  {size(changed)}: {tmp_path / 'changed'}, or mlxrun, has changed since" in told
    assert f"{broken}  100 B: it is damaged, or of another version" in told
    assert "3 would go" in told
    assert {good, gone, changed, broken} <= set(settings.ready.iterdir())
    assert main(["prune"]) == 0
    assert "3 gone" in capsys.readouterr().out
    assert list(settings.ready.glob(f"*{ready.SUFFIX}")) == [good]
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == f"0 gone, 0 B are free again; 1 kept ({size(good)}).\n"


def test_prune_takes_what_another_version_made(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    file = model(settings.models / "own", settings)
    copy = make_quantized_copy(open_checkpoint(settings.models / "own"), HOW, settings.quantized)
    assert [one.outdated for one in everything(settings)] == [None, None]
    monkeypatch.setattr(provenance, "code", lambda: "newer")
    monkeypatch.setattr(provenance, "COPIES", provenance.COPIES + 1)
    assert {one.path: bool(one.outdated) for one in everything(settings)} == {copy: True, file: True}


def test_quantized_copies_go_with_what_was_made_of_them(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write(reference("llama").checkpoint(), tmp_path / "mine")
    copy = make_quantized_copy(open_checkpoint(place), HOW, settings.quantized)
    load_model(copy, options=LoadOptions(ready=settings.ready))
    file = kept(settings, set())
    assert main(["prune"]) == 0
    assert (copy.is_dir(), file.exists()) == (True, True)
    (place / "config.json").write_text((place / "config.json").read_text() + " ")
    assert main(["prune", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert f"{copy}  {size(copy)}: {place / 'config.json'} has changed since" in told
    assert f"{file}  {size(file)}: the quantized copy that it was made of goes" in told
    assert main(["prune"]) == 0
    assert (copy.exists(), file.exists()) == (False, False)


def test_a_copy_of_equal_size_and_time_is_made_anew(settings: Settings, tmp_path: Path) -> None:
    place = write(reference("llama").checkpoint(), tmp_path / "mine")
    first, file = make_quantized_copy(open_checkpoint(place), HOW, settings.quantized), place / "model.safetensors"
    raw, seen = file.read_bytes(), file.stat()
    file.write_bytes(raw[:-1] + b"\7")
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert make_quantized_copy(open_checkpoint(place), HOW, settings.quantized) != first


def test_a_note_that_makes_no_sense_is_none(settings: Settings, tmp_path: Path) -> None:
    copy = make_quantized_copy(
        open_checkpoint(write(reference("llama").checkpoint(), tmp_path / "mine")), HOW, settings.quantized
    )
    notes = settings.quantized / provenance.NOTES
    assert provenance.noted(copy) is not None
    for text in ("", "[1]", json.dumps({copy.name: {"place": 5}})):
        notes.write_text(text)
        assert provenance.noted(copy) is None
    assert [bool(one.outdated) for one in everything(settings)] == [True]


def test_rm_says_what_went(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, mine = model(settings.models / "own", settings), model(tmp_path / "mine", settings)
    freed = size(mine)
    assert main(["rm", str(tmp_path / "mine")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"What was made of {tmp_path / 'mine'} is gone; {freed} are free again."
    assert second == f"The model itself is no part of mlxrun's store and was left: {tmp_path / 'mine'}"
    assert (mine.exists(), (tmp_path / "mine" / "config.json").exists()) == (False, True)
    made = size(own)
    assert main(["rm", "own"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("own is gone; ")
    assert f"{made} of it of what was made of the model." in told
    assert not own.exists()
    assert not (settings.models / "own").exists()


def test_verify_reads_what_was_made_ready(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model(tmp_path / "mine", settings)
    name = str(tmp_path / "mine")
    assert main(["verify", name]) == 0
    assert f"{name}: 1 ready file made of it, every block is right." in capsys.readouterr().out
    _, blocks = ready.described(file, file.stat())
    assert checksums.checked(blocks) == len(blocks.sums)
    raw, seen = bytearray(file.read_bytes()), file.stat()
    raw[-30] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert main(["verify", name, "--check"]) == 1
    assert f"{file}: block 1 of 1 is not what was written." in capsys.readouterr().err
    assert file.exists()
    assert main(["verify", name]) == 0
    assert "made anew when the model is loaded" in capsys.readouterr().err
    assert not file.exists()
