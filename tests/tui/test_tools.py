"""Tools of a real MCP server in the chat: asked about, allowed for good, denied, broken off; servers that lie."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlxrun.tui import calls
from mlxrun.tui.app import Chat
from mlxrun.tui.calls import CallState
from mlxrun.tui.toolbox import McpToolbox
from mlxrun.tui.widgets import call
from mlxrun.tui.widgets.call import CallCard
from textual.pilot import Pilot

from mlxrun.client import Piece
from mlxrun.parts import Arguments, CallBegun, CallEnded, Said

from .fakes import STOP, FakeBackend, FakeClient, said
from .helpers import gate, hides, idle, in_app, prompt, running, seen, send, shows, until

pytest.importorskip("mcp", reason="the package mcp is not installed")

SERVER = """
import os, sys, time
from mcp.server.mcpserver import MCPServer

own = MCPServer("box")

@own.tool(description=os.environ.get("TOLD", "The sum."))
def add(a: int, b: int) -> str:
    return str(a + b)

@own.tool()
def raw() -> str:
    return "\\x1b[31mred\\n" + "\\n".join(f"line {i}" for i in range(20))

@own.tool()
def sleep() -> str:
    time.sleep(60)
    return "late"

@own.tool()
def die() -> str:
    os._exit(3)

own.run()
"""


@pytest.fixture(autouse=True)
def hears_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "DEAF_SECONDS", 0.0)


def calling(name: str, *, text: str = "", **arguments: Any) -> list[Piece]:
    parts = (*([Said(text)] if text else []), CallBegun(0, f"id-{name}", name), Arguments(0, json.dumps(arguments)))
    return [Piece((*parts, CallEnded(0))), STOP]


def tooled(folder: Path, *answers: list[Piece], **servers: Any) -> tuple[Chat, FakeClient]:
    (folder / "server.py").write_text(SERVER)
    known = servers or {"box": {"command": sys.executable, "args": [str(folder / "server.py")]}}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": known}))
    client = FakeClient(answers=list(answers))
    backend = FakeBackend([client])
    backend.loaded.set()
    return Chat(
        backend, folder / "sessions.db", toolbox=McpToolbox(folder / "mcp.json"), settings=folder / "none"
    ), client


async def lend(pilot: Pilot[None]) -> None:
    await send(pilot, "/tools box")
    assert isinstance(pilot.app, Chat)
    talk = pilot.app.chat.talk
    await until(pilot, lambda: talk is not None and talk.wishes.tools == ("box",), "the tools are lent")


def told_last(client: FakeClient) -> Sequence[dict[str, Any]]:
    return client.asked[-1]


@in_app
async def test_a_call_is_asked_about_run_and_told_to_the_model(folder: Path) -> None:
    app, client = tooled(folder, calling("box__add", text="I add.", a=1, b=2), said("It is 3."), said("Still 3."))
    async with running(app) as pilot:
        await lend(pilot)
        await send(pilot, "What is 1 + 2?")
        await shows(pilot, "? box__add  waits for your word", "a: 1", "b: 2", "y runs it once")
        assert app.focused is not None
        assert isinstance(app.focused, CallCard)
        await pilot.press("y")
        await shows(pilot, "✓ box__add  done", "  3", "I add.", "It is 3.")
        await idle(pilot)
        assert prompt(pilot).has_focus
        asked = {"id": "id-box__add", "type": "function"}
        asked |= {"function": {"name": "box__add", "arguments": '{"a": 1, "b": 2}'}}
        first = [
            {"role": "user", "content": "What is 1 + 2?"},
            {"role": "assistant", "content": "I add.", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": "id-box__add", "content": "3"},
        ]
        assert told_last(client) == first
        assert [tool.name for tool in client.options[-1]["tools"]] == ["box__add", "box__raw", "box__sleep", "box__die"]
        await send(pilot, "Sure?")
        await idle(pilot)
        assert told_last(client)[:4] == [*first, {"role": "assistant", "content": "It is 3."}]
        assert app.chat.talk is not None
        kept = app.chat.talk.turns[1]
    assert (kept.content, [use.state for use in calls.read(kept.calls)]) == ("I add.\n\nIt is 3.", [CallState.DONE])
    app.toolbox.close()


@in_app
async def test_what_is_denied_does_not_run_and_what_is_allowed_for_good_is_asked_once(folder: Path) -> None:
    app, client = tooled(
        folder, calling("box__add", a=1, b=2), said("Then not."),
        *[one for _ in range(2) for one in (calling("box__add", a=2, b=2), said("Four."))],
    )  # fmt: skip
    async with running(app, (80, 50)) as pilot:
        await lend(pilot)
        await send(pilot, "one")
        await shows(pilot, "waits for your word")
        await pilot.press("n")
        await shows(pilot, "– box__add  not allowed by you", "Then not.")
        assert told_last(client)[-1]["content"] == calls.DENIED
        await idle(pilot)
        await send(pilot, "two")
        await until(pilot, lambda: isinstance(app.focused, CallCard), "it asks")
        await pilot.press("a")
        await idle(pilot)
        await send(pilot, "three")
        await idle(pilot)
        assert told_last(client)[-1]["content"] == "4"
        assert seen(app).count("✓ box__add  done") == 2
        lent = app.tools["box__add"]
        assert app.may_call(lent)
        assert not app.may_call(app.tools["box__die"])
    app.toolbox.close()
    app.sessions.close()
    other = {"command": sys.executable, "args": [str(folder / "server.py")], "env": {"TOLD": "Something else."}}
    again, _ = tooled(folder, calling("box__add", a=2, b=2), said("Four."), box=other)
    async with running(again) as pilot:  # what was said yes to is no longer what it is
        await send(pilot, "four")
        await shows(pilot, "? box__add  waits for your word")
        await pilot.press("escape")
        await idle(pilot)
    again.toolbox.close()


@in_app
async def test_whoever_writes_meanwhile_allows_nothing(folder: Path) -> None:
    app, client = tooled(folder, [Piece((Said("Hm."),)), *calling("box__add", a=1, b=2)], said("Three."))
    client.gate = gate()
    async with running(app) as pilot:
        await lend(pilot)
        await send(pilot, "go")
        await shows(pilot, "Hm.")
        prompt(pilot).load("an")
        client.gate.set()
        await shows(pilot, "waits for your word", "shift+tab goes to it")
        await pilot.press(*"y and any")
        assert prompt(pilot).text == "any and any"
        assert "? box__add" in seen(app)
        await pilot.press("shift+tab", "y")
        await shows(pilot, "✓ box__add", "Three.")
    app.toolbox.close()


@in_app
async def test_esc_breaks_a_call_off(folder: Path) -> None:
    app, client = tooled(folder, calling("box__sleep"), said("More."))
    async with running(app) as pilot:
        await lend(pilot)
        await send(pilot, "go")
        await shows(pilot, "waits for your word")
        await pilot.press("y")
        await shows(pilot, "… box__sleep  runs")
        await pilot.press("escape")
        await shows(pilot, "✗ box__sleep  failed", "stopped · tiny")
        await idle(pilot)
        await send(pilot, "and now?")
        await idle(pilot)
        assert told_last(client)[2] == {"role": "tool", "tool_call_id": "id-box__sleep", "content": calls.BROKEN_OFF}
    app.toolbox.close()


@in_app
async def test_what_a_tool_says_is_shown_and_never_obeyed(folder: Path) -> None:
    app, _ = tooled(folder, calling("box__raw"), said("Red."), calling("box__\x1b[31mno", a="\x1b[2J"), said("No."))
    async with running(app, (80, 40)) as pilot:
        await lend(pilot)
        await send(pilot, "go")
        await shows(pilot, "waits for your word", "without arguments")
        await pilot.press("y")
        await shows(pilot, "␛[31mred", "line 4", "15 more lines; enter shows them", "Red.")
        await hides(pilot, "line 19")
        app.query_one(CallCard).focus()
        await pilot.press("enter")
        await shows(pilot, "line 19")
        await idle(pilot)
        await pilot.press("shift+tab")
        await send(pilot, "again")
        await shows(pilot, "✗ box__␛[31mno  failed", "a: ␛[2J", "There is no tool")
    app.toolbox.close()


@in_app
async def test_a_server_that_dies_or_is_none_says_so(folder: Path) -> None:
    box = {"command": sys.executable, "args": [str(folder / "server.py")]}
    liar = {"command": sys.executable, "args": ["-c", "print('no protocol'); import time; time.sleep(1)"]}
    app, client = tooled(folder, calling("box__die"), said("It died."), box=box, liar=liar)
    async with running(app, (120, 40)) as pilot:
        await send(pilot, "/tools")
        await shows(pilot, "box: add, raw, sleep, die", "The MCP server liar cannot be reached")
        await pilot.press("escape")
        await send(pilot, "/tools nobody")
        await shows(pilot, "no server 'nobody'", "it has box, liar.")
        await pilot.press("escape")
        await send(pilot, "/tools liar")
        await shows(pilot, "The MCP server liar cannot be reached")
        await pilot.press("escape")
        assert app.chat.talk is not None
        assert app.chat.talk.wishes.tools == ()
        await lend(pilot)
        await send(pilot, "go")
        await shows(pilot, "waits for your word")
        await pilot.press("y")
        await shows(pilot, "✗ box__die  failed", "The MCP server box failed", "It died.")
        await idle(pilot)
        await send(pilot, "/tools off")
        await send(pilot, "more")
        await idle(pilot)
        assert "tools" not in client.options[-1]
    app.toolbox.close()


@in_app
async def test_a_file_that_is_none_is_one_sentence(folder: Path) -> None:
    app, _ = tooled(folder)
    async with running(app, (120, 30)) as pilot:
        (folder / "mcp.json").write_text("{")
        await send(pilot, "/tools box")
        await shows(pilot, "is no JSON")
        await pilot.press("escape")
        (folder / "mcp.json").unlink()
        await send(pilot, "/tools box")
        await shows(pilot, "cannot be read: No such file")
