"""/api/pull of a server that was started with --allow-pull: progress, what goes wrong, who leaves; then all of it with
a process and a hub on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub.constants
import ollama
import pytest

from mlxrun.server.app import Server
from mlxrun.server.pulls import MOST, Pulls
from mlxrun.store.resolve import fetchable
from tests.unit.store.fake_hub import FakeHub, the_only_hub

from .process import serving
from .scripted import ask, server

STEPS: list[dict[str, Any]] = [
    {"completed": 0, "total": 30, "digest": "ab" * 32},
    {"completed": 20, "total": 30, "digest": "ab" * 32},
]
LOST = "The Hugging Face hub has no model org/lost, or you may not see it"


def pulling(code: str) -> tuple[Server, dict[str, Path]]:
    """A server whose fetching is done by this program."""
    offered: dict[str, Path] = {}
    own, _ = server(pulls=Pulls(fetchable, offered.__setitem__, (sys.executable, "-c", code)))
    return own, offered


def saying(*told: Any) -> str:
    return "\n".join(f"print({json.dumps(json.dumps(one))}, flush=True)" for one in told)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_progress_and_then_it_is_offered() -> None:
    own, offered = pulling(saying(*STEPS, {"place": "/models/name"}))
    digest = {"status": f"pulling {'ab' * 6}", "digest": f"sha256:{'ab' * 32}", "total": 30}
    assert lines(ask(own, "/api/pull", {"model": "org/name"})) == [
        {"status": "pulling manifest"},
        {**digest, "completed": 0},
        {**digest, "completed": 20},
        {"status": "success"},
    ]
    assert offered == {"org/name": Path("/models/name")}
    assert ask(own, "/api/pull", {"name": "qwen3:4b", "stream": False}).json() == {"status": "success"}
    assert "qwen3:4b" in offered


def test_what_goes_wrong_is_a_sentence() -> None:
    own, offered = pulling(saying(STEPS[0], {"error": LOST}))
    assert lines(ask(own, "/api/pull", {"model": "org/lost"}))[-1] == {"error": LOST}
    whole = ask(own, "/api/pull", {"model": "org/lost", "stream": False})
    assert (whole.status_code, whole.json()) == (502, {"error": LOST})
    own, _ = pulling("raise SystemExit(3)")
    assert "died" in lines(ask(own, "/api/pull", {"model": "org/name"}))[-1]["error"]
    assert offered == {}


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "~/m", "--help", "http://127.0.0.1/x/y", "a b/c", "x\0y", "org/name/../../x", "a" * 9999]
)
def test_a_name_is_no_path_and_no_flag(name: str) -> None:
    own, offered = pulling(saying({"place": "/"}))
    told = lines(ask(own, "/api/pull", {"model": name}))
    assert told[-1]["error"].startswith("there is no model ")
    assert len(told[-1]["error"]) < 300
    assert offered == {}


def test_without_the_flag_it_is_refused() -> None:
    refused = ask(server()[0], "/api/pull", {"model": "org/name"})
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        "this server fetches no models for its clients: fetch it with mlxrun pull and serve it, "
        "or start the server with --allow-pull",
    )


def test_who_leaves_ends_the_fetching_and_few_run_at_once(tmp_path: Path) -> None:
    code = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
    own, _ = pulling(code + saying(STEPS[0]) + "\ntime.sleep(600)")

    def running() -> list[str]:
        return [name for name in os.listdir(tmp_path) if alive(int(name))]

    async def asked() -> None:
        transport = httpx.ASGITransport(own.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=None) as client:
            body = {"model": "org/name"}
            asking = [
                asyncio.create_task(client.post("/api/pull", json={**body, "stream": stream}))
                for stream in (True, False)
            ]
            assert len(asking) == MOST
            while len(running()) < MOST:
                await asyncio.sleep(0.01)
            late = await client.post("/api/pull", json={**body, "stream": False})
            assert (late.status_code, "retry-after" in late.headers) == (503, True)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            while running():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(asked(), 60))
    assert lines(ask(pulling(saying({"place": "/"}))[0], "/api/pull", {"model": "org/name"}))[-1]["status"] == "success"


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_fetches_a_model_for_a_client_and_answers_with_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {file.name: file.read_bytes() for file in tiny_folder.iterdir() if file.is_file()}
    with the_only_hub(FakeHub(files), tmp_path, monkeypatch):
        for name, value in (("ENDPOINT", huggingface_hub.constants.ENDPOINT), ("HUB_CACHE", str(tmp_path / "hub"))):
            monkeypatch.setenv(f"HF_{name}", value)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        with serving(str(tiny_folder), "--name", "first", "--allow-pull") as own:
            client = ollama.Client(own.url)
            told = [step for step in client.pull("org/name", stream=True) if step.digest]
            total = len(files["model.safetensors"])
            assert total <= (told[-1].total or 0) <= sum(map(len, files.values()))
            assert [model.model for model in client.list().models] == ["first", "org/name"]
            texts = [
                client.generate(name, "a", options={"num_predict": 4, "temperature": 0}).response
                for name in ("first", "org/name")
            ]
            assert texts[0] == texts[1]
