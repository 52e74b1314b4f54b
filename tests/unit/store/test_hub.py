"""Pulling, checking and removing against a hub that answers, refuses, breaks off and lies."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from mlxrun.cli import main
from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import hub
from mlxrun.store.remove import remove
from mlxrun.store.resolve import resolve
from mlxrun.store.verify import verify
from tests.golden.checkpoint import reference, write
from tests.unit.store.fake_hub import COMMIT, FakeHub, printed_by_two, the_only_hub


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write(reference("llama").checkpoint(), tmp_path_factory.mktemp("llama"))
    extra = {"README.md": b"hello", "pytorch_model.bin": b"pickle"}
    return {file.name: file.read_bytes() for file in folder.iterdir()} | extra


@pytest.fixture
def far(model_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with the_only_hub(FakeHub(dict(model_files)), tmp_path, monkeypatch) as fake:
        yield fake


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mistyped a folder's name reads that it is not here, not only that a network is missing."""
    fake = FakeHub({})
    with the_only_hub(fake, tmp_path, monkeypatch):
        pass  # it has gone, and nobody listens at its address
    with pytest.raises(
        ModelError, match="my/model is not on this machine, and the Hugging Face hub could not be reach"
    ):
        hub.snapshot("my/model")


def test_only_what_is_needed_is_fetched_and_only_once(far: FakeHub) -> None:
    folder = hub.snapshot("org/name")
    names = {file.name for file in folder.iterdir()}
    assert "model.safetensors" in names
    assert not names & {"README.md", "pytorch_model.bin"}
    far.asked.clear()
    assert hub.snapshot("org/name") == folder
    assert far.asked == []


def test_a_search_lists_what_can_be_read_here(far: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(name: str, fetched: int | None, *tags: str) -> dict[str, object]:
        return {"id": name, "modelId": name, "downloads": fetched, "tags": list(tags)}

    far.models = [
        told("org/many", 12_345, "safetensors", "text-generation"),
        told("org/onnx", 99, "onnx"),
        told("org/files", None, "gguf"),
    ]
    assert hub.search("words") == [("org/many", 12_345), ("org/files", 0)]
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    far.status = 503
    with pytest.raises(ModelError, match="out of order"):
        hub.search("words")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        hub.search("words")


def test_a_revision_is_pinned(far: FakeHub) -> None:
    folder = hub.snapshot(f"org/name@{COMMIT}")
    far.asked.clear()
    assert folder.name == COMMIT
    assert hub.snapshot(f"org/name@{COMMIT}") == folder
    assert far.asked == []


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, None, "does not accept your token"),
        (403, "GatedRepo", "accept their terms"),
        (404, "RepoNotFound", "has no model org/name"),
        (429, None, "too many requests"),
        (500, None, "out of order"),
        (503, None, "out of order"),
    ],
)
def test_every_refusal_is_one_sentence(
    status: int, code: str | None, told: str, far: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    far.status, far.code = status, code
    with pytest.raises(ModelError, match=told) as raised:
        hub.snapshot("org/name")
    assert "\n" not in str(raised.value)


def test_a_line_that_breaks_goes_on_later(far: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    far.stops_after = 1000
    with pytest.raises(ModelError, match="org/name could not be fetched"):
        hub.snapshot("org/name")
    here = hub.cached("org/name")
    assert here is None or not hub.is_whole(here)  # nothing that could be loaded
    far.stops_after = None
    far.asked.clear()
    folder = hub.snapshot("org/name")
    assert [one.fault for one in verify(folder)] == [None] * len(list(folder.iterdir()))
    assert not any(asked.startswith("GET") and asked.endswith("/config.json") for asked in far.asked)  # it was there


def test_a_full_disk_is_said(far: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ModelError, match="disk is full"):
        hub.snapshot("org/name")
    here = hub.cached("org/name")
    assert here is None or not hub.is_whole(here)


def test_offline_the_network_is_never_asked(far: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        hub.snapshot("org/name")
    assert far.asked == []


def test_two_pulls_at_once_end_alike(far: FakeHub, tmp_path: Path) -> None:
    code = "from mlxrun.store import hub; print(hub.snapshot('org/name'))"
    places = printed_by_two(code, tmp_path / "hub")
    assert places == {str(tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT)}
    assert all(one.fault is None for one in verify(Path(places.pop())))


# ---- verify and rm ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_named_and_fetched_anew(name: str, far: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    folder = hub.snapshot("org/name")
    raw = bytearray((folder / name).read_bytes())
    raw[-3] ^= 1
    (folder / name).resolve().write_bytes(raw)
    assert [one.file for one in verify(folder) if one.fault is not None] == [name]
    assert main(["verify", "org/name", "--check"]) == 1
    assert f"{name}: its digest is not" in capsys.readouterr().err
    assert main(["verify", "org/name"]) == 0
    assert f"{name} fetched anew" in capsys.readouterr().out
    assert (folder / name).read_bytes() == far.files[name]
    assert main(["verify", "org/name"]) == 0


def test_removed_it_is_gone_and_a_folder_of_ones_own_stays(far: FakeHub, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    folder = hub.snapshot("org/name")
    freed = remove("org/name", settings).model
    assert freed >= len(far.files["model.safetensors"])
    assert not folder.exists()
    assert not (tmp_path / "hub" / "models--org--name").exists()
    with pytest.raises(ModelError, match="no model 'org/name'"):
        remove("org/name", settings)
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(ModelError, match="delete it yourself"):
        remove(str(mine), settings)
    assert mine.exists()


def test_what_was_made_ready_goes_with_the_model(tmp_path: Path) -> None:
    from mlxrun.loading import ready

    settings = Settings(home=tmp_path / "home")
    place = settings.models / "own"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    settings.ready.mkdir()
    ours = ready.file_of(settings.ready, ready.Source(place, ()))
    other = ready.file_of(settings.ready, ready.Source(tmp_path, ()))
    for file in (ours, other):
        file.write_bytes(bytes(10))
    remove("own", settings)
    assert not ours.exists()
    assert other.exists()
    assert not place.exists()


@pytest.mark.parametrize("name", ["../home", "..", ".", "", "models/..", "/"])
def test_no_name_leads_out_of_the_store(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home")
    settings.models.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        remove(name, settings)
    assert settings.models.is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir()
    (place / "config.json").write_text("{}")
    place.chmod(0)
    try:
        with pytest.raises((ModelError, PermissionError)):
            resolve(str(place), Settings(home=tmp_path / "home"))
    finally:
        place.chmod(0o755)
