"""Models of Ollama's registry, against one on this machine that answers, refuses, damages and lies."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlxrun import cli
from mlxrun.settings import Settings
from mlxrun.spec import ModelError
from mlxrun.store import registry
from mlxrun.store.remove import remove
from mlxrun.store.resolve import headers_of, resolve
from tests.unit.weights.weight_files import one_sentence

LARGE = 40_000


@dataclass
class Registry:
    weights: bytes = b"GGUF" + bytes(range(256)) * (LARGE // 256)
    manifest: Any = None  # in place of the right one
    status: int = 200
    damaged: bool = False
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.weights).hexdigest()

    def told(self) -> Any:
        layers = [
            {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "0" * 64, "size": 3},
            {"mediaType": "application/vnd.ollama.image.model", "digest": self.digest, "size": len(self.weights)},
        ]
        return {"schemaVersion": 2, "layers": layers} if self.manifest is None else self.manifest


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    found = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if found.status != 200:
                self.send_error(found.status)
                return
            blob = "/blobs/" in self.path
            body = found.weights if blob else json.dumps(found.told()).encode()
            if blob and found.damaged:
                body = body[:-1] + b"!"
            start, stop = 0, len(body)
            asked = self.headers.get("Range")
            if blob:
                found.ranges.append(asked)
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, stop = int(first), min(len(body), int(last) + 1) if last else len(body)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            self.wfile.write(body[start:stop])

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(registry.ADDRESS, f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(registry, "SPARE", 0)
        yield found
        server.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "owner", "model", "tag", "file"),
    [
        ("ollama:qwen3:4b", "library", "qwen3", "4b", "qwen3--4b.gguf"),
        ("ollama:qwen3", "library", "qwen3", "latest", "qwen3--latest.gguf"),
        ("ollama:mine/thing:v1.2", "mine", "thing", "v1.2", "mine--thing--v1.2.gguf"),
    ],
)
def test_names(text: str, owner: str, model: str, tag: str, file: str, settings: Settings) -> None:
    found = registry.parse(text)
    assert found == registry.Registered(owner, model, tag)
    assert found.place(settings) == settings.models / file
    assert registry.parse(str(found)) == found


@pytest.mark.parametrize("text", ["ollama:", "ollama:a/b/c", "ollama:../x", "ollama:a:b:c", "ollama:a b"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ModelError, match="no name of Ollama's registry"):
        registry.parse(text)
    assert registry.parse("qwen3:4b") is None


def test_it_is_fetched_once(own: Registry, settings: Settings) -> None:
    place = resolve("ollama:qwen3:4b", settings)
    assert place == settings.models / "qwen3--4b.gguf"
    assert place.read_bytes() == own.weights
    assert [path for path in own.asked if "manifests" in path] == ["/v2/library/qwen3/manifests/4b"]
    before = len(own.asked)
    assert resolve("ollama:qwen3:4b", settings) == resolve("qwen3--4b.gguf", settings) == place
    assert len(own.asked) == before
    assert [file.name for file in settings.models.iterdir()] == [place.name]
    assert remove("ollama:qwen3:4b", settings).model == len(own.weights)
    assert not place.exists()


def test_it_goes_on_where_it_stopped(own: Registry, settings: Settings) -> None:
    part = settings.models / f".{own.digest.removeprefix('sha256:')}.mlxrun-part"
    settings.models.mkdir()
    part.write_bytes(own.weights[:1000])
    assert resolve("ollama:mine/thing", settings).read_bytes() == own.weights
    assert own.ranges == ["bytes=1000-"]
    assert not part.exists()


def test_what_arrives_otherwise_is_not_kept(own: Registry, settings: Settings) -> None:
    own.damaged = True
    with pytest.raises(ModelError) as error:
        resolve("ollama:qwen3:4b", settings)
    assert "did not arrive as Ollama's registry has it" in one_sentence(error.value)
    assert not list(settings.models.iterdir())
    own.damaged = False
    assert resolve("ollama:qwen3:4b", settings).is_file()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"status": 404}, "Ollama's registry has no ollama:qwen3:4b."),
        ({"status": 403}, "could not be fetched from Ollama's registry (status 403)"),
        ({"manifest": []}, "is no manifest"),
        ({"manifest": {"layers": [{"mediaType": "x"}]}}, "has 0 files of weights"),
        ({"manifest": {"layers": [5]}}, "is no manifest"),
        ({"manifest": {"layers": ["x" * (2 << 20)]}}, "too large to be believed"),
    ],
)
def test_what_a_registry_may_say(how: dict[str, Any], said: str, own: Registry, settings: Settings) -> None:
    for name, value in how.items():
        setattr(own, name, value)
    with pytest.raises(ModelError) as error:
        resolve("ollama:qwen3:4b", settings)
    assert said in one_sentence(error.value)


def test_blobs_of_other_names_are_not_believed(own: Registry, settings: Settings) -> None:
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 5}
    own.manifest = {"layers": [layer]}
    with pytest.raises(ModelError, match="files of weights"):
        resolve("ollama:qwen3:4b", settings)
    own.manifest = {"layers": [{**layer, "digest": own.digest, "size": 1 << 60}]}
    with pytest.raises(ModelError, match="files of weights"):
        resolve("ollama:qwen3:4b", settings)


def test_no_room(own: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "free_in", lambda folder: 100)
    with pytest.raises(ModelError, match="of the disk are free"):
        resolve("ollama:qwen3:4b", settings)


def test_its_headers_without_the_rest(own: Registry, settings: Settings, smollm2_gguf: Path) -> None:
    own.weights = smollm2_gguf.read_bytes()
    with headers_of("ollama:smollm2:135m", settings) as (place, downloaded):
        assert not downloaded
        assert place.stat().st_size == len(own.weights)
    assert all(asked is not None for asked in own.ranges)
    assert not settings.models.exists()


def test_the_commands(
    own: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    assert cli.main(["pull", "ollama:qwen3:4b"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "models" / "qwen3--4b.gguf")
    assert "Fetching ollama:qwen3:4b" in err
    assert cli.main(["rm", "ollama:qwen3:4b"]) == 0
    assert "ollama:qwen3:4b is gone" in capsys.readouterr().out
