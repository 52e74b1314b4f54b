"""Models of other programs: found by their own names, and nothing that is written there leads anywhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxrun.store.others import models_of_others, ollama_models
from mlxrun.store.resolve import resolve
from mlxrun.weights.gguf import named_as_gguf

SUM = "ab" * 32
KIND = "application/vnd.ollama.image.model"


def manifest(home: Path, where: str, layers: object, blob: bool = True) -> Path:
    folder = home / ".ollama" / "models"
    place = folder / "manifests" / where
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"layers": layers}))
    if blob:
        (folder / "blobs").mkdir(exist_ok=True)
        (folder / "blobs" / f"sha256-{SUM}").write_bytes(b"GGUF")
    return folder


def layer(digest: str = f"sha256:{SUM}", kind: str = KIND) -> dict[str, str]:
    return {"mediaType": kind, "digest": digest}


def test_ollamas_models_by_the_names_that_it_has_for_them(tmp_path: Path) -> None:
    for where in ("registry.ollama.ai/library/qwen3/4b", "registry.ollama.ai/me/own/latest", "hf.co/org/model-GGUF/Q4"):
        manifest(tmp_path, where, [layer(kind="application/vnd.ollama.image.params"), layer()])
    found = dict(models_of_others({}, tmp_path))
    assert set(found) == {"qwen3:4b", "me/own:latest", "hf.co/org/model-GGUF:Q4"}
    assert {place.name for place in found.values()} == {f"sha256-{SUM}"}
    assert all(named_as_gguf(place) and resolve(str(place)) == place for place in found.values())


def test_its_folder_may_be_elsewhere(tmp_path: Path) -> None:
    folder = manifest(tmp_path, "registry.ollama.ai/library/a/b", [layer()])
    assert dict(models_of_others({"OLLAMA_MODELS": str(folder)}, tmp_path / "nobody")).keys() == {"a:b"}
    assert dict(models_of_others({}, tmp_path / "nobody")) == {}


@pytest.mark.parametrize(
    "layers",
    [
        [],
        None,
        "x",
        [layer(), layer()],
        [layer(digest="sha256:../../../etc/passwd")],
        [layer(digest=f"sha256:{SUM}/x")],
        [layer(digest=f"sha256-{SUM}")],
        [{"mediaType": KIND}],
        [{"mediaType": KIND, "digest": 5}],
    ],
)
def test_a_manifest_that_is_none(layers: object, tmp_path: Path) -> None:
    assert list(ollama_models(manifest(tmp_path, "registry.ollama.ai/library/a/b", layers))) == []


def test_a_blob_that_is_gone(tmp_path: Path) -> None:
    assert list(ollama_models(manifest(tmp_path, "registry.ollama.ai/library/a/b", [layer()], blob=False))) == []


def test_lm_studios_folders(tmp_path: Path) -> None:
    for version in (".lmstudio/models", ".cache/lm-studio/models"):
        place = tmp_path / version / "org" / version[1:3] / "model.gguf"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"GGUF")
    assert set(dict(models_of_others({}, tmp_path))) == {"org/lm", "org/ca"}
