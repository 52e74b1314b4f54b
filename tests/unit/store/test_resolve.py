"""Names that people type, and where they lead. The hub's cache is laid out by hand as the hub's library does."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import huggingface_hub.utils
import pytest

from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import hub, starter
from mlxrun.store.resolve import list_installed, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for way in ("_download", "listing"):
        monkeypatch.setattr(hub, way, lambda name: pytest.fail(f"the network was asked for {name}"))
    return Settings(home=tmp_path / "home")


def cached(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for file, text in files.items():
        (snapshot / file).write_text(text)
    return snapshot


def folder(place: Path, *files: str) -> Path:
    place.mkdir(parents=True)
    for file in files:
        (place / file).write_text("{}")
    return place


def test_the_starter(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "fetch", lambda s, told: s.models / starter.FILE)
    assert resolve("smollm2", settings) == settings.models / starter.FILE


def test_paths(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = folder(tmp_path / "org" / "name", "config.json")
    single = folder(tmp_path / "single", "a.gguf")
    assert resolve(str(model), settings) == model
    assert resolve("org/name", settings) == Path("org/name")  # a path that exists wins over the hub
    assert resolve(str(single), settings) == single / "a.gguf"
    assert resolve(str(single / "a.gguf"), settings) == single / "a.gguf"


def test_a_name_in_the_store(settings: Settings) -> None:
    model = folder(settings.models / "mine", "config.json")
    assert resolve("mine", settings) == model


@pytest.mark.parametrize("index", [None, {"a": "model-1.safetensors", "b": "model-2.safetensors"}])
def test_a_whole_copy_in_the_hub_cache_needs_no_network(settings: Settings, tmp_path: Path, index: dict | None) -> None:
    files = {"config.json": "{}", "model-1.safetensors": "", "model-2.safetensors": ""}
    if index:
        files["model.safetensors.index.json"] = json.dumps({"weight_map": index})
    snapshot = cached(tmp_path, "org/name", files)
    assert resolve("org/name", settings) == snapshot


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": "{}"},
        {"model.safetensors": ""},
        {
            "config.json": "{}",
            "model-1.safetensors": "",
            "model.safetensors.index.json": '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
        },
        {"config.json": "{}", "model-1.safetensors": "", "model.safetensors.index.json": "[]"},
    ],
)
def test_half_a_copy_is_fetched(
    settings: Settings, tmp_path: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(tmp_path, "org/name", files)
    monkeypatch.setattr(hub, "listing", lambda name: hub.Listing(name, COMMIT, {"model.safetensors": 1}, {}))
    monkeypatch.setattr(hub, "_download", lambda name: tmp_path / "fetched")
    assert resolve("org/name", settings) == tmp_path / "fetched"


def test_only_what_we_read_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **how: asked.update(how) or str(tmp_path))
    assert hub._download("org/name") == tmp_path
    names = ["config.json", "model-1.safetensors", "tokenizer.model", "chat_template.jinja", "merges.txt"]
    unwanted = ["original/x.safetensors", "onnx/config.json", "consolidated.safetensors", "pytorch_model.bin", "x.gguf"]
    kept = huggingface_hub.utils.filter_repo_objects(
        names + unwanted, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert list(kept) == names


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (huggingface_hub.errors.LocalEntryNotFoundError("no net\nat all"), "could not be reached"),
        (OSError(28, "No space left on device"), "The disk is full"),
        (huggingface_hub.errors.HFValidationError("two\nlines"), "two"),
    ],
)
def test_a_failed_fetch_is_one_sentence(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **how: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=said) as caught:
        hub._download("org/name")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "", "no/such/path", "nope.gguf", "org/nope.gguf", "../up"])
def test_what_is_nowhere(name: str, settings: Settings) -> None:
    with pytest.raises(ModelError, match=r"There is no model .*smollm2") as caught:
        resolve(name, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("files", "said"), [((), "holds no model"), (("a.gguf", "b.gguf"), "a.gguf, b.gguf")])
def test_folders_that_are_no_model(files: tuple[str, ...], said: str, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        resolve(str(folder(tmp_path / "x", *files)), settings)


def test_a_file_that_is_no_model(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ModelError, match=r"neither a \.gguf file nor a folder"):
        resolve(str(tmp_path / "x.txt"), settings)


def test_what_is_installed(settings: Settings, tmp_path: Path) -> None:
    folder(settings.models / "mine", "config.json")
    (settings.models / "b.gguf").write_text("")
    (settings.models / ".lock").write_text("")
    snapshot = cached(tmp_path, "org/name", {"config.json": "{}", "model.safetensors": ""})
    cached(tmp_path, "org/half", {"config.json": "{}"})
    assert list(list_installed(settings)) == [
        ("smollm2", None),
        ("b.gguf", settings.models / "b.gguf"),
        ("mine", settings.models / "mine"),
        ("org/name", snapshot),
    ]
