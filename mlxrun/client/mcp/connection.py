"""One MCP server, connected when it is first wanted and again when it has gone. Runs on the lender's event loop.

Whatever a server does, whoever wants something of it gets an answer in time: its result, or one sentence.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from ...text.tokenizer import well_formed
from .file import McpServer

if TYPE_CHECKING:
    from mcp import Client, Tool
    from mcp.types import CallToolResult

CONNECT = 15.0  # seconds until it has told its tools
ALIVE = 5.0  # seconds within which a server that lives says so
AGAIN = 10.0  # seconds after a failure before it is tried again
MOST_TOOLS = 256
NAME = re.compile(r"[\w.:-]{1,80}")  # of a tool: with its server's before it, as long as dialects allow
MOST_RESULT = 32_000  # characters that a model is handed


class McpFailed(Exception):
    """One sentence about a server that is of no use now."""


@dataclass(frozen=True)
class ToolResult:
    text: str
    failed: bool = False


class McpConnection:
    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._tools: list[Tool] = []
        self._keeper: asyncio.Task[None] | None = None
        self._failed: tuple[float, str] | None = None  # when, why

    async def reach(self) -> None:
        """Raises McpFailed where it cannot be."""
        await self._connected()

    def tools(self, *, all_of_them: bool = False) -> list[Tool]:
        """What the file allows of what it offers, or all of it, as it said when it was reached."""
        offered = (tool for tool in self._tools if NAME.fullmatch(tool.name))
        return [tool for tool in offered if all_of_them or tool.name in self.server.allow]

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolResult:
        name, seconds = self.server.name, self.server.seconds
        try:
            client = await self._connected()
        except McpFailed as error:
            return ToolResult(str(error), failed=True)
        done, why = await within(client.call_tool(tool, arguments), seconds)
        if why is None:
            return result_of(done)
        if isinstance(why, TimeoutError):
            return ToolResult(f"The MCP server {name} did not answer within {seconds:g} s.", failed=True)
        if not lives_on(why):
            self._drop()
        return ToolResult(f"The MCP server {name} failed: {said(why)}", failed=True)

    async def close(self) -> None:
        keeper = self._keeper
        self._drop()
        if keeper is not None:
            await asyncio.wait({keeper}, timeout=ALIVE)

    async def _connected(self) -> Client:
        async with self._lock:
            if self._client is not None and await self._lives(self._client):
                return self._client
            self._drop()
            if self._failed is not None and time.monotonic() - self._failed[0] < AGAIN:
                raise McpFailed(self._failed[1])
            self._failed = None
            return await self._connect()

    async def _connect(self) -> Client:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        keeper = asyncio.create_task(self._keep(ready))
        either: set[asyncio.Future[Any]] = {ready, keeper}
        try:
            await asyncio.wait(either, timeout=CONNECT, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                self._client, self._keeper = ready.result(), keeper
                return self._client
            why = keeper.exception() if keeper.done() and not keeper.cancelled() else None
        finally:
            if self._keeper is not keeper:  # it failed, or who asked has left
                keeper.cancel()
        reason = said(why) if why is not None else f"it told no tools within {CONNECT:g} s."
        self._failed = (time.monotonic(), f"The MCP server {self.server.name} cannot be reached: {reason}")
        raise McpFailed(self._failed[1])

    async def _keep(self, ready: asyncio.Future[Client]) -> None:
        """All of a connection's life in one task, as its library wants it."""
        from mcp import Client

        with open(os.devnull, "w") as unread:
            await self._kept(Client(target_of(self.server, unread)), ready)

    async def _kept(self, opened: Client, ready: asyncio.Future[Client]) -> None:
        async with opened as client:
            self._tools, cursor = [], None
            while len(self._tools) < MOST_TOOLS:
                page = await client.list_tools(cursor=cursor)
                self._tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
            ready.set_result(client)
            await asyncio.Event().wait()  # until it is cancelled

    async def _lives(self, client: Client) -> bool:
        if self._keeper is None or self._keeper.done():
            return False
        _, why = await within(client.list_tools(cache_mode="bypass"), ALIVE)
        return why is None

    def _drop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        self._keeper = self._client = None


async def within(work: Awaitable[Any], seconds: float) -> tuple[Any, BaseException | None]:
    """Its result, or what it raised; a TimeoutError where it took too long."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()  # nothing where it is done
    if not task.done():
        return None, TimeoutError()
    why = task.exception()
    return (None, why) if why is not None else (task.result(), None)


def target_of(server: McpServer, unread: TextIO) -> Any:
    """`unread`: where a program's log goes, which is not ours."""
    from mcp import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    if server.command is None:
        client = create_mcp_http_client(headers=dict(server.headers))
        return streamable_http_client(server.url or "", http_client=client)
    started = StdioServerParameters(
        command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd
    )
    return stdio_client(started, unread)


def lives_on(why: BaseException) -> bool:
    """Whether that is an answer of a server that is well: the tool is unknown, or its arguments are."""
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    return isinstance(why, MCPError) and why.error.code != CONNECTION_CLOSED


def said(why: BaseException) -> str:
    """One line; of several exceptions the first."""
    from pydantic import ValidationError

    while isinstance(why, BaseExceptionGroup):
        why = why.exceptions[0]
    if isinstance(why, ValidationError):
        first = why.errors()[0]
        return f"what it said is no MCP: {'.'.join(map(str, first['loc']))}: {first['msg']}."
    line = " ".join(str(why).split())[:300] or type(why).__name__
    return line if line.endswith(".") else f"{line}."


def result_of(result: CallToolResult) -> ToolResult:
    """Its texts; of what is none, what it is."""
    parts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    text = well_formed("\n".join(parts))
    if len(text) > MOST_RESULT:
        text = f"{text[:MOST_RESULT]}\n[{len(text) - MOST_RESULT} more characters were cut off]"
    return ToolResult(text, bool(result.is_error))
