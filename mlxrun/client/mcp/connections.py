"""All MCP servers of a file, on an event loop of their own, on one thread.

Every method may be called from any thread but that. Whatever a server does, whoever asks hears of it in time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...core import RequestError
from ...turns import Tool
from .connection import McpConnection, McpFailed, ToolResult
from .file import McpServer

if TYPE_CHECKING:
    import mcp

CLOSING = 10.0  # seconds
T = TypeVar("T")


@dataclass(frozen=True)
class LentTool:
    tool: Tool  # as a model is shown it
    server: str
    name: str  # as the server knows it


class Connections:
    def __init__(self, servers: Sequence[McpServer], wanted: str) -> None:
        """`wanted`: what begins the sentence where the package is missing."""
        try:
            import mcp  # noqa: F401 whether it is there is asked before anything else
        except ImportError as error:
            raise RequestError(f"{wanted} needs the package mcp: pip install 'mlxrun[mcp]'.") from error
        self._known = {server.name: McpConnection(server) for server in servers}
        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what servers do wrong is told to who asked for them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mlxrun-mcp", daemon=True)
        self._thread.start()

    @property
    def servers(self) -> Mapping[str, McpServer]:
        return {name: connection.server for name, connection in self._known.items()}

    def reach(self, server: str) -> Future[None]:
        """Raises McpFailed in the future where it cannot be."""
        return self._run(self._known[server].reach())

    def tools(self, server: str, *, all_of_them: bool = False) -> dict[str, LentTool]:
        """By the server's own names, of one that was reached: what the file allows, or all that it offers."""
        found = self._known[server].tools(all_of_them=all_of_them)
        return {one.name: lent_tool(server, one) for one in found}

    def call(self, calls: Sequence[tuple[LentTool, str]]) -> Future[list[ToolResult]]:
        """All at once, of arguments as a model wrote them: JSON objects as text. Raises nothing."""
        return self._run(self._called(calls))

    async def _called(self, calls: Sequence[tuple[LentTool, str]]) -> list[ToolResult]:
        return list(await asyncio.gather(*(self._one(lent, arguments) for lent, arguments in calls)))

    async def _one(self, lent: LentTool, arguments: str) -> ToolResult:
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return ToolResult("The arguments are no JSON object.", failed=True)
        return await self._known[lent.server].call(lent.name, given)

    def reached(self) -> Future[dict[str, str]]:
        """Of each server why it cannot be, or ""."""
        return self._run(self._reached())

    async def _reached(self) -> dict[str, str]:
        told = await asyncio.gather(*map(why_not, self._known.values()))
        return dict(zip(self._known, told, strict=True))

    def close(self) -> None:
        self._run(self._closed()).result(CLOSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _closed(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._known.values()))

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def why_not(connection: McpConnection) -> str:
    try:
        await connection.reach()
    except McpFailed as error:
        return str(error)
    return ""


def lent_tool(server: str, told: mcp.Tool) -> LentTool:
    parameters = {"type": "object", "properties": {}} | dict(told.input_schema)
    return LentTool(Tool(f"{server}__{told.name}", told.description or "", parameters), server, told.name)
