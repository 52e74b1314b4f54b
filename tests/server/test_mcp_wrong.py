"""MCP servers that lie, hang or talk nonsense, by a program that writes what it likes; and one reached by its URL."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from mlxrun.server.mcp.lender import Lender
from mlxrun.server.run import listen

from .lent import body_of, calls, chat, lender_of, lending_server
from .live import InThread
from .scripted import ask, error_of

pytest.importorskip("mcp", reason="the package mcp is not installed")

SCHEMAS: dict[str, Any] = {
    "kind": {"type": "banana"},
    "loop": {"$ref": "#"},
    "fields": {"type": "object", "properties": 5},
    "text": "a schema",
    "least": {"type": "object", "properties": {"a": {"type": "integer", "minimum": "x"}}},
    "far": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}},
    "bomb": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a{1,1000}){1,1000}"}}},
    "huge": {"type": "object"},
    "shape": {"type": "object"},
    "chatter": {"type": "object"},
}
SERVER = f"""
import json, os, sys

SCHEMAS, own = json.loads({json.dumps(json.dumps(SCHEMAS))}), sys.argv[1]
RESULTS = {{"huge": [{{"type": "text", "text": "y" * 3_000_000}}], "shape": "no list"}}
if own == "hang":
    open(sys.argv[2], "w").write(str(os.getpid()))
for line in sys.stdin:
    asked = json.loads(line)
    told = {{"jsonrpc": "2.0", "id": asked.get("id")}}
    if own == "hang" or "id" not in asked:
        continue
    if asked["method"] == "initialize":
        version = asked["params"]["protocolVersion"]
        told["result"] = {{"protocolVersion": version, "capabilities": {{"tools": {{}}}}}}
        told["result"]["serverInfo"] = {{"name": "liar", "version": "1"}}
    elif asked["method"] == "tools/list":
        told["result"] = {{"tools": [{{"name": own, "inputSchema": SCHEMAS[own]}}]}}
    elif asked["method"] == "tools/call":
        told["result"] = {{"content": RESULTS.get(own, [{{"type": "text", "text": "done"}}])}}
        if own == "chatter":
            print("this is no JSON")
            print(json.dumps({{**told, "id": 99999}}))
    else:
        told["error"] = {{"code": -32601, "message": "no"}}
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp")


@pytest.fixture(scope="module")
def lender(folder: Path) -> Iterator[Lender]:
    program, names = folder / "liar.py", [*SCHEMAS, "hang"]
    program.write_text(SERVER)
    started = {n: {"command": sys.executable, "args": [str(program), n, str(folder / "pid")]} for n in names}
    with lender_of(folder, {name: {**one, "allow": names} for name, one in started.items()}) as own:
        yield own


@pytest.mark.parametrize("name", ["kind", "loop", "fields", "text"])
def test_a_tool_without_a_schema_of_an_object_is_one_sentence(lender: Lender, name: str) -> None:
    response, engine = chat(lender, "Hi", lent=[name])
    told = error_of(response)["message"]
    assert (response.status_code, engine.asked) == (503, [])
    assert told.startswith(f"The MCP server {name} cannot be reached: what it said is no MCP: tools.0.inputSchema")
    assert "http" not in told


@pytest.mark.parametrize("name", ["least", "far", "bomb"])
def test_a_schema_that_cannot_be_held_to_is_not(lender: Lender, name: str) -> None:
    """Nothing is fetched for it."""
    response, _ = chat(lender, calls(f"{name}__{name}", a="aaa"), "So.", lent=[name])
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["mcp_calls"][0]["result"] == "done"
    assert (name == "bomb") == ("x-mlxrun-left-out" not in response.headers)


def test_megabytes_are_cut(lender: Lender) -> None:
    response, engine = chat(lender, calls("huge__huge"), "So.", lent=["huge"])
    told = response.json()["choices"][0]["message"]["mcp_calls"][0]["result"]
    assert told == "y" * 32_000 + "\n[2968000 more characters were cut off]"
    assert len(engine.asked[-1].tokens) < 33_000


def test_nonsense_is_an_error_for_the_model_or_passed_over(
    lender: Lender, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    response, _ = chat(lender, calls("shape__shape"), "So.", lent=["shape"])
    (call,) = response.json()["choices"][0]["message"]["mcp_calls"]
    assert call["is_error"]
    assert call["result"].startswith("The MCP server shape failed: what it said is no MCP: content")
    response, _ = chat(lender, calls("chatter__chatter"), "So.", lent=["chatter"])
    (call,) = response.json()["choices"][0]["message"]["mcp_calls"]
    assert (call["result"], call["is_error"]) == ("done", False)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_hangs_holds_up_nobody_else_and_goes_with_who_asked(lender: Lender, folder: Path) -> None:
    """More wait for it than there are threads."""
    own, engine = lending_server(lender, "Hello")

    def running() -> bool:
        try:
            os.kill(int((folder / "pid").read_text()), 0)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return False
        return True

    async def asked() -> None:
        transport = httpx.ASGITransport(own.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=None) as client:
            hanging = [
                asyncio.create_task(client.post("/v1/chat/completions", json=body_of(["hang"]))) for _ in range(6)
            ]
            while not running():
                await asyncio.sleep(0.01)
            beside = await client.post("/v1/chat/completions", json=body_of([]))
            assert beside.json()["choices"][0]["message"]["content"] == "Hello"
            assert not any(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.wait(hanging)
            while running():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(asked(), 60))
    assert len(engine.asked) == 1


def test_a_server_by_its_url(tmp_path: Path) -> None:
    from mcp.server.mcpserver import MCPServer

    box = MCPServer("box")

    @box.tool()
    def add(a: int, b: int) -> str:
        """The sum."""
        return str(a + b)

    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    web = uvicorn.Server(uvicorn.Config(box.streamable_http_app(), log_level="error"))
    web.capture_signals = InThread.capture_signals.__get__(web)  # type: ignore[method-assign]  # they are the main thread's
    thread = threading.Thread(target=lambda: asyncio.run(web.serve(sockets=[listener])))
    thread.start()
    try:
        servers = {"box": {"url": f"{url}/mcp", "allow": ["add"]}, "lost": {"url": f"{url}/nothing", "allow": ["add"]}}
        with lender_of(tmp_path, servers) as lender:
            response, _ = chat(lender, calls("box__add", a=2, b=3), "5.")
            assert response.json()["choices"][0]["message"]["mcp_calls"][0]["result"] == "5"
            own, _ = lending_server(lender, "Hi")
            told = error_of(ask(own, "/v1/chat/completions", body_of(["lost"])))["message"]
            assert told.startswith("The MCP server lost cannot be reached: ")
    finally:
        web.should_exit = True
        thread.join()
        listener.close()
