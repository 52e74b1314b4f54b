"""Chats of a scripted engine that are lent tools of MCP servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mlxrun.client.mcp.file import read_servers
from mlxrun.core import Event, Request
from mlxrun.server.app import Server
from mlxrun.server.dialects import lending
from mlxrun.server.mcp.lender import Lender

from .scripted import ScriptedEngine, ask, server


@dataclass
class Rounds(ScriptedEngine):
    """Says one text after the other; the last again and again."""

    texts: list[str] = field(default_factory=list)

    def events(self, request: Request) -> Iterator[Event]:
        self.text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return super().events(request)


def calls(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@contextmanager
def lender_of(folder: Path, servers: Mapping[str, Any]) -> Iterator[Lender]:
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    own = Lender(read_servers(folder / "mcp.json"))
    try:
        yield own
    finally:
        own.close()


def chat(lender: Lender, *texts: str, lent: Any = ("box",), **more: Any) -> tuple[httpx.Response, Rounds]:
    own, engine = lending_server(lender, *texts)
    return ask(own, "/v1/chat/completions", body_of(lent, **more)), engine


def body_of(lent: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], "mlxrun_mcp": list(lent), **more}


def lending_server(lender: Lender, *texts: str) -> tuple[Server, Rounds]:
    dialects, plains = lending(lender)
    engine = Rounds(texts=list(texts), context=200_000)
    own, _ = server(engine, dialects=dialects, plains=plains)
    return own, engine
