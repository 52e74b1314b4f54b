"""Ollama's words about models, and its own client."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ollama
import pytest

from mlxrun.cli.offered import card_of

from .scripted import TEMPLATE, ScriptedEngine, ask, server
from .test_dialects import running
from .test_ollama import TOOLS, chat, lines


def test_names_with_the_usual_tag() -> None:
    own, _ = server()
    answer = chat(own, model="scripted:latest", stream=False).json()
    assert answer["model"] == "scripted:latest"  # as it was asked for
    assert ask(own, "/api/show", {"model": "scripted:latest"}).status_code == 200


def test_its_models() -> None:
    own, _ = server(template=TOOLS)
    assert ask(own, "/", method="GET").text == "Ollama is running"
    assert tuple(map(int, ask(own, "/api/version").json()["version"].split("."))) >= (0, 17, 6)
    (tag,) = ask(own, "/api/tags").json()["models"]
    assert (tag["name"], tag["model"], tag["capabilities"]) == ("scripted", "scripted", ["completion", "tools"])
    assert set(tag["details"]) == {
        *("parent_model", "format", "family", "families", "parameter_size", "quantization_level")
    }
    (loaded,) = ask(own, "/api/ps").json()["models"]
    assert (loaded["name"], loaded["size"], loaded["context_length"]) == ("scripted", 7, 1000)
    for body in ({"model": "scripted"}, {"name": "scripted", "verbose": True}):
        shown = ask(own, "/api/show", body).json()
        assert (shown["capabilities"], shown["template"]) == (["completion", "tools"], TOOLS)
    assert ask(own, "/api/show", {}).json() == {"error": "model is required"}
    missing = ask(own, "/api/show", {"model": "other"})
    assert (missing.status_code, missing.json()) == (404, {"error": "model 'other' not found"})


def test_models_are_not_managed_over_http() -> None:
    own, _ = server()
    assert lines(ask(own, "/api/pull", {"model": "scripted"}).text) == [
        {"status": "pulling manifest"},
        {"status": "success"},
    ]
    assert ask(own, "/api/pull", {"model": "scripted", "stream": False}).json() == {"status": "success"}
    assert ask(own, "/api/pull", {"model": "other"}).status_code == 403
    assert ask(own, "/api/delete", {"model": "scripted"}, method="DELETE").status_code == 403
    for path in ("copy", "create", "push", "blobs/sha256:0"):
        refused = ask(own, f"/api/{path}", {"model": "scripted"})
        assert (refused.status_code, set(refused.json())) == (501, {"error"})


def with_sdk(
    engine: ScriptedEngine, test: Callable[[ollama.AsyncClient], Awaitable[Any]], template: str = TOOLS
) -> Any:
    async def inside() -> Any:
        own, _ = server(engine, template=template)
        async with running(own) as client:
            return await test(ollama.AsyncClient(str(client.base_url)))

    return asyncio.run(asyncio.wait_for(inside(), 60))


def test_its_own_client() -> None:
    async def test(sdk: ollama.AsyncClient) -> None:
        messages = [{"role": "user", "content": "Hi"}]
        whole = await sdk.chat("scripted", messages)
        assert (whole.message.content, whole.message.thinking, whole.done_reason) == ("Hello", "Hm.", "stop")
        parts = [part async for part in await sdk.chat("scripted", messages, stream=True)]
        assert "".join(part.message.content or "" for part in parts) == "Hello"
        assert (parts[-1].done, parts[-1].eval_count) == (True, whole.eval_count)
        text = await sdk.generate("scripted", "Hi", options=ollama.Options(num_predict=30), keep_alive="5m")
        assert text.response == "Hello"
        (model,) = (await sdk.list()).models
        assert model.model == "scripted"
        assert (await sdk.show("scripted")).capabilities == ["completion", "tools"]
        assert [model.model for model in (await sdk.ps()).models] == ["scripted"]
        assert (await sdk.pull("scripted")).status == "success"
        for refused, status in ((sdk.chat("other", messages), 404), (sdk.delete("scripted"), 403)):
            with pytest.raises(ollama.ResponseError) as raised:
                await refused
            assert raised.value.status_code == status

    with_sdk(ScriptedEngine("<think>Hm.</think>Hello"), test)


def test_what_the_files_of_a_model_say(tiny_folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(tiny_folder, tmp_path / "copy")
    facts = card_of(place).facts
    assert (facts.format, facts.context) == ("safetensors", 1024)
    assert facts.bytes == (place / "model.safetensors").stat().st_size
    assert 0 < facts.parameters <= facts.bytes
    assert facts == card_of(place).facts
    os.utime(place / "model.safetensors", (1, 1))
    assert facts.digest != card_of(place).facts.digest


def test_its_own_client_calls_tools() -> None:
    def weather(city: str) -> str:
        """Tells the weather.

        Args:
            city: where
        """
        return city

    async def test(sdk: ollama.AsyncClient) -> None:
        asked: list[Any] = [{"role": "user", "content": "Hi"}]
        whole = await sdk.chat("scripted", asked, tools=[weather])
        (call,) = whole.message.tool_calls or ()
        assert (call.function.name, call.function.arguments) == ("weather", {"city": "Bern"})
        parts = [part async for part in await sdk.chat("scripted", asked, tools=[weather], stream=True)]
        assert [part.message.tool_calls for part in parts if part.message.tool_calls] == [whole.message.tool_calls]
        asked += [whole.message, {"role": "tool", "tool_name": "weather", "content": "sun"}]
        assert (await sdk.chat("scripted", asked, tools=[weather])).done

    own = ScriptedEngine('<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>', context=5000)
    with_sdk(own, test, TEMPLATE)
