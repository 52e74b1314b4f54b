"""Several real models behind one server as a process: loaded, unloaded, deleted, and stopped while they load."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxrun.cli import main
from mlxrun.client.http import HttpTransport

from .process import SECONDS, Serving, command, serving


@pytest.fixture(scope="module")
def models(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for name in ("one", "two"):
        shutil.copytree(tiny_folder, folder / name)
    shutil.copytree(tiny_folder, folder / "org" / "three")
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def own(models: Path) -> Iterator[Serving]:
    with serving("--models-dir", str(models), "--max-models", "2") as server:
        yield server


def ask(own: Serving, name: str, **fields: Any) -> httpx.Response:
    return own.post("/v1/completions", {"model": name, "prompt": "Once", "max_tokens": 8, "temperature": 0, **fields})


def health(own: Serving) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = httpx.get(f"{own.url}/health", timeout=SECONDS).json()["models"]
    return told


def loaded(own: Serving) -> set[str]:
    return {model["name"] for model in health(own) if model["state"] == "loaded"}


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_models_come_when_asked_for_and_go_for_others(own: Serving) -> None:
    assert "loads what is asked for: 'broken', 'one', 'org/three', 'two'." in own.said[-1]
    assert loaded(own) == set()
    said = {name: ask(own, name).json()["choices"][0]["text"] for name in ("one", "two", "org/three")}
    assert len(set(said.values())) == 1  # the same weights
    assert loaded(own) == {"two", "org/three"}
    assert all(model["bytes"] > 0 and model["unloads_in_seconds"] > 200 for model in health(own))


def test_a_client_sees_which_are_loaded(own: Serving) -> None:
    ask(own, "one")
    told = {model.name: model.loaded for model in HttpTransport.open(own.url, None, "one").models()}
    assert told.keys() == {"broken", "one", "org/three", "two"}
    assert (told["one"], told["broken"]) == (True, False)


def test_ps_tells_what_is_loaded(own: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    ask(own, "one")
    assert main(["ps", "--at", own.url]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "HOLDS", "IN", "USE", "BY", "GOES"]
    (mine,) = [row for row in rows if row.startswith("one ")]
    assert re.fullmatch(r"one +[\d.]+ \w+ +nobody +in (299|300) s", mine)
    assert main(["ps", "--at", "http://127.0.0.1:1"]) == 2
    assert "No server answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_a_model_that_is_broken_is_told_and_others_answer(own: Serving) -> None:
    refused = ask(own, "broken")
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert message.startswith("The model 'broken' could not be loaded: ")
    assert "config.json" in message
    assert ask(own, "one").status_code == 200


def test_a_model_whose_folder_is_deleted(own: Serving, models: Path, tiny_folder: Path) -> None:
    shutil.copytree(tiny_folder, models / "gone")
    before = ask(own, "gone").json()["choices"]
    shutil.rmtree(models / "gone")
    assert ask(own, "gone").json()["choices"] == before  # it is loaded, and stays what it was
    assert own.post("/models/unload", {"model": "gone"}).json() == {"success": True}
    until(lambda: "gone" not in loaded(own))
    refused = ask(own, "gone")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert ask(own, "one").status_code == 200


def test_many_ask_for_all_at_once(own: Serving) -> None:
    told: list[int] = []
    names = ["one", "two", "org/three"] * 5
    threads = [threading.Thread(target=lambda name=name: told.append(ask(own, name).status_code)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [200] * len(names)
    assert len(loaded(own)) == 2


def test_a_named_model_that_is_deleted_is_not_loaded_again(tiny_folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(tiny_folder, tmp_path / "here")
    with serving(str(place), str(tiny_folder), "--keep-alive", "0") as server:
        until(lambda: ask(server, "here").status_code == 200)
        shutil.rmtree(place)
        until(lambda: not loaded(server))
        refused = ask(server, "here")
        assert refused.status_code == 503
        assert "could not be loaded: There is no model" in refused.json()["error"]["message"]
        assert ask(server, "tiny").status_code == 200
        assert server.stop() == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as own:
        return own.connect_ex(("127.0.0.1", port)) == 0


def test_a_signal_while_the_first_model_loads(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    port = free_port()
    process = subprocess.Popen(command(str(smollm2_gguf), "--port", str(port)), stderr=subprocess.PIPE, text=True)
    until(lambda: listening(port))
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=SECONDS)
    assert (process.returncode, "Traceback" in told) == (0, False)
    assert not list((tmp_path / "ready").glob("*.safetensors*"))


def test_a_signal_while_a_model_loads_that_somebody_asked_for(
    smollm2_gguf: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXRUN_HOME", str(tmp_path))
    refused: list[httpx.Response] = []
    with serving(str(tiny_folder), str(smollm2_gguf), "--grace", "0") as server:
        asked = threading.Thread(target=lambda: refused.append(ask(server, smollm2_gguf.stem)))
        asked.start()
        until(lambda: any(model["state"] == "loading" for model in health(server)))
        assert server.stop() == 0
        asked.join()
    assert refused[0].status_code == 503, refused[0].text
    assert refused[0].json()["error"]["message"] == "The server is stopping."
    assert not list((tmp_path / "ready").glob("*.safetensors*"))
