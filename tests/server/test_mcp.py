"""Tools of a real MCP server, lent to chats of a scripted engine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxrun.client.mcp.connections import Connections
from mlxrun.client.mcp.file import read_servers
from mlxrun.core import RequestError
from mlxrun.server.mcp.lender import Lender
from mlxrun.server.mcp.rounds import MOST_ROUNDS, OneRound

from .lent import calls, chat, lender_of, lending_server
from .scripted import ScriptedEngine, ask, error_of, events_of, server

pytest.importorskip("mcp", reason="the package mcp is not installed")

SERVER = '''
import os, sys, time
from mcp.server.mcpserver import MCPServer

own = MCPServer("box")

@own.tool()
def add(a: int, b: int) -> str:
    """The sum."""
    return str(a + b)

@own.tool()
def secret() -> str:
    """Not for everybody."""
    return "secret"

@own.tool()
def long() -> str:
    return "x" * 100_000

@own.tool()
def broken() -> str:
    raise ValueError("it broke")

@own.tool()
def marked() -> str:
    return "a<tool_call>b"

@own.tool()
def die() -> str:
    os._exit(3)

@own.tool()
def sleep() -> str:
    time.sleep(60)
    return "late"

own.run("stdio")
'''
ALLOWED = ["add", "long", "broken", "marked", "die", "sleep"]


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "server.py").write_text(SERVER)
    started = {"command": sys.executable, "args": [str(folder / "server.py")], "allow": ALLOWED}
    servers = {"box": started, "gone": {"command": str(folder / "nothing"), "allow": ["add"]}}
    with lender_of(folder, servers) as own:
        yield own


def prompt(engine: ScriptedEngine, number: int = -1) -> str:
    return bytes(engine.asked[number].tokens).decode()


def test_a_call_is_answered_here_and_the_model_goes_on(lender: Lender) -> None:
    response, engine = chat(lender, "Let me see. " + calls("box__add", a=2, b=3), "It is 5.")
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "Let me see.\n\nIt is 5."
    assert "tool_calls" not in choice["message"]
    (call,) = choice["message"]["mcp_calls"]
    assert (call["name"], json.loads(call["arguments"])) == ("box__add", {"a": 2, "b": 3})
    assert (call["result"], call["is_error"]) == ("5", False)
    assert "box__add" in prompt(engine, 0)
    assert "secret" not in prompt(engine, 0)
    called = '<tool_call>\n{"name": "box__add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
    assert prompt(engine).endswith(f"{called}\ntool(box__add):5\n")
    usage = response.json()["usage"]
    assert usage["prompt_tokens"] == sum(len(request.tokens) for request in engine.asked)


def test_a_stream_tells_calls_and_results_in_order(lender: Lender) -> None:
    response, _ = chat(
        *(lender, calls("box__add", a=1, b=1) + calls("box__add", a=2, b=2), calls("box__broken"), "Done."),
        stream=True,
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in events_of(response)]
    told = [call for delta in deltas for call in delta.get("mcp_calls", ())]
    assert [call["index"] for call in told if "id" in call] == [0, 1, 2]
    assert [(call["index"], call["result"]) for call in told if "result" in call][:2] == [(0, "2"), (1, "4")]
    assert "broken" in told[-1]["result"]
    assert told[-1]["is_error"]
    last = max(number for number, delta in enumerate(deltas) if "mcp_calls" in delta)
    assert "".join(delta.get("content") or "" for delta in deltas[last:]) == "Done."
    assert events_of(response)[-1]["choices"][0]["finish_reason"] == "stop"


def test_results_are_data(lender: Lender) -> None:
    _, engine = chat(lender, calls("box__marked") + calls("box__long"), "Done.")
    here = prompt(engine).partition("user:")[2]
    assert here.count("x") == 32_000 + here.count("box")
    assert here.endswith("[68000 more characters were cut off]\n")
    long = f"{'x' * 32_000}\n[68000 more characters were cut off]"
    named = [("box__marked", "a<tool_call>b"), ("box__long", long)]
    called = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name, _ in named]
    results = [{"role": "tool", "tool_call_id": name, "content": told} for name, told in named]
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": called}, *results]
    _, told = chat(lender, "Done.", messages=messages)
    assert prompt(told).partition("user:")[2] == here, "as what a client says a tool said"


def hasten(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = lender._connections._known["box"]
    monkeypatch.setattr(connection, "server", replace(connection.server, seconds=1.5))


def test_a_server_that_dies_or_sleeps_is_one_sentence_and_comes_back(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in (("box__die", "The MCP server box failed"), ("box__sleep", "did not answer within 1.5 s")):
        if name == "box__sleep":
            hasten(lender, monkeypatch)
        response, _ = chat(lender, calls(name), "Sorry.")
        message = response.json()["choices"][0]["message"]
        assert message["content"] == "Sorry."
        assert message["mcp_calls"][0]["is_error"]
        assert words in message["mcp_calls"][0]["result"]
    monkeypatch.undo()
    response, _ = chat(lender, calls("box__add", a=1, b=2), "3.")
    assert response.json()["choices"][0]["message"]["mcp_calls"][0]["result"] == "3"


def test_rounds_end(lender: Lender) -> None:
    response, engine = chat(lender, calls("box__add", a=1, b=1))
    assert len(engine.asked) == MOST_ROUNDS + 1
    assert len(response.json()["choices"][0]["message"]["mcp_calls"]) >= MOST_ROUNDS


def test_a_call_of_the_askers_own_tool_ends_the_answer(lender: Lender) -> None:
    tool = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object", "properties": {}}}}
    response, engine = chat(lender, calls("box__add", a=1, b=1), calls("mine"), tools=[tool])
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["mine"]
    assert [call["name"] for call in choice["message"]["mcp_calls"]] == ["box__add"]
    assert len(engine.asked) == 2


def test_a_lent_tool_can_be_demanded_once(lender: Lender) -> None:
    response, engine = chat(lender, calls("box__add", a=1, b=1), "2.", tool_choice="required")
    assert response.json()["choices"][0]["message"]["content"] == "2."
    first, second = (request.constraint for request in engine.asked)
    assert first is not None
    assert first != second


def test_lent_tools_have_names_of_their_own(lender: Lender) -> None:
    tool = {"type": "function", "function": {"name": "box__add"}}
    response, _ = chat(lender, "Hi", tools=[tool])
    assert "'box__add' is the name of a tool that mlxrun_mcp lends" in error_of(response)["message"]
    assert "n 1" in error_of(chat(lender, "Hi", n=2)[0])["message"]


@pytest.mark.parametrize(
    ("lent", "status", "words"),
    [
        (["nobody"], 400, "no MCP server 'nobody' here; there are box, gone"),
        (["box.secret"], 400, "'box.secret' is not lent"),
        (["box.nothing"], 400, "is not lent; of box are add, broken"),
        (["gone"], 503, "The MCP server gone cannot be reached"),
        ("box", 400, "mlxrun_mcp must be a list"),
    ],
)
def test_what_is_not_lent(lender: Lender, lent: Any, status: int, words: str) -> None:
    own, _ = lending_server(lender, "Hi")
    response = ask(own, "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "mlxrun_mcp": lent})
    assert response.status_code == status
    assert words in error_of(response)["message"]


def test_nothing_is_lent_to_who_does_not_ask(lender: Lender) -> None:
    _, engine = chat(lender, "Hi", lent=())
    assert prompt(engine) == "user:Hi\n"
    refused = ask(server()[0], "/v1/chat/completions", {"messages": [], "mlxrun_mcp": ["box"]})
    assert refused.status_code == 400


def test_a_server_without_mcp_says_so() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "mlxrun_mcp": ["box"]}
    assert "--mcp" in error_of(ask(server()[0], "/v1/chat/completions", body))["message"]


def test_what_is_lent_is_listed(lender: Lender) -> None:
    own, _ = lending_server(lender, "Hi")
    box, gone = ask(own, "/v1/mcp").json()["data"]
    assert (box["server"], box["error"]) == ("box", None)
    assert sorted(tool["name"] for tool in box["tools"]) == sorted(ALLOWED)
    assert (gone["tools"], gone["error"].count(".")) == ([], gone["error"].count("."))
    assert "cannot be reached" in gone["error"]


def test_who_leaves_while_a_tool_is_called_ends_the_answer(lender: Lender) -> None:
    own, engine = lending_server(lender, calls("box__sleep"), "Late.")
    body = {"messages": [{"role": "user", "content": "Hi"}], "mlxrun_mcp": ["box"]}

    async def stopped() -> httpx.Response:
        transport = httpx.ASGITransport(own.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=None) as client:
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            while not engine.asked:
                await asyncio.sleep(0.01)
            own.stop()
            return await asking

    assert asyncio.run(stopped()).status_code == 503
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[]", "must be an object"),
        ('{"mcpServers": {"a b": {"command": "x"}}}', "name must be"),
        ('{"mcpServers": {"a": {}}}', "either a command or a url"),
        ('{"mcpServers": {"a": {"command": "x", "url": "y"}}}', "either a command or a url"),
        ('{"mcpServers": {"a": {"command": 3}}}', "mcpServers.a.command must be text"),
        ('{"mcpServers": {"a": {"command": "x", "args": "y"}}}', "args must be a list of texts"),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": 1}}}}', "env must be an object of texts"),
        ('{"mcpServers": {"a": {"command": "x", "allow": "*"}}}', "allow must be a list of texts"),
        ('{"mcpServers": {"a": {"command": "x", "timeout": 0}}}', "timeout must be a number of seconds"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mcp.json").write_text(text)
    with pytest.raises(RequestError, match=words) as error:
        read_servers(tmp_path / "mcp.json")
    assert str(error.value).count("\n") == 0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_servers(tmp_path / "mcp.json")


def test_without_its_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(RequestError, match=r"--mcp needs the package mcp: pip install 'mlxrun\[mcp\]'\."):
        Lender(())


def test_what_breaks_between_rounds_ends_the_answer(lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it would wait for ever."""

    def breaks(*_: Any) -> None:
        raise KeyError("a mistake of ours")

    async def breaks_later(*_: Any) -> None:
        breaks()

    for owner, name, mistake in ((OneRound, "turns", breaks), (Connections, "_called", breaks_later)):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, mistake)
            response, _ = chat(lender, calls("box__add", a=1, b=1), "2.")
        assert response.status_code == 500
        assert "KeyError" in error_of(response)["message"]
