"""Lends tools of MCP servers to chats: by name, and only those that the file allows.

The connections live on an event loop of their own, on one thread; every method may be called from any thread but that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...core import RequestError
from ...turns import Tool
from ..check import shown
from ..dialect import Json
from ..errors import ApiError
from .connection import McpConnection, McpFailed, ToolResult
from .file import McpServer

if TYPE_CHECKING:
    import mcp

FIELD = "mlxrun_mcp"
NEXT = 4  # threads that render what a model is asked next
CLOSING = 10.0  # seconds
T = TypeVar("T")


@dataclass(frozen=True)
class LentTool:
    tool: Tool  # as a model is shown it
    server: str
    name: str  # as the server knows it


class Lender:
    def __init__(self, servers: Sequence[McpServer]) -> None:
        try:
            import mcp  # noqa: F401 whether it is there is asked before anything else
        except ImportError as error:
            raise RequestError("--mcp needs the package mcp: pip install 'mlxrun[mcp]'.") from error
        self._connections = {server.name: McpConnection(server) for server in servers}
        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what servers do wrong is told to who asked for them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mlxrun-mcp", daemon=True)
        self._thread.start()
        self.pool = ThreadPoolExecutor(NEXT, "mlxrun-mcp-next")

    async def reach(self, names: Sequence[str]) -> None:
        """Every server of these, on the loop of whoever asks. Raises an ApiError."""
        servers = dict.fromkeys(self._server(name) for name in names)
        reached = [self._run(self._connections[server].reach()) for server in servers]
        try:
            await asyncio.gather(*map(asyncio.wrap_future, reached))
        except McpFailed as error:
            raise ApiError(503, str(error), param=FIELD) from error

    def tools(self, names: Sequence[str]) -> dict[str, LentTool]:
        """By the names that a model knows them by, of servers that were reached. `names`: of servers, or server.tool.
        Raises an ApiError."""
        lent: dict[str, LentTool] = {}
        for name in names:
            server, tool = self._server(name), name.partition(".")[2]
            offered = {one.name: one for one in self._connections[server].tools()}
            if tool and tool not in offered:
                raise ApiError(
                    400, f"{FIELD}: {shown(name)} is not lent; of {server} are {listed(offered)}.", param=FIELD
                )
            for one in [offered[tool]] if tool else offered.values():
                made = lent_tool(server, one)
                lent[made.tool.name] = made
        return lent

    def _server(self, asked: str) -> str:
        server = asked.partition(".")[0]
        if server not in self._connections:
            names = listed(self._connections)
            raise ApiError(400, f"{FIELD}: there is no MCP server {shown(asked)} here; there are {names}.", param=FIELD)
        return server

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
        return await self._connections[lent.server].call(lent.name, given)

    async def described(self) -> list[Json]:
        """On the loop of whoever asks."""
        return await asyncio.wrap_future(self._run(self._described()))

    async def _described(self) -> list[Json]:
        return list(await asyncio.gather(*map(described, self._connections.values())))

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._run(self._closed()).result(CLOSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _closed(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def lent_tool(server: str, told: mcp.Tool) -> LentTool:
    parameters = {"type": "object", "properties": {}} | dict(told.input_schema)
    return LentTool(Tool(f"{server}__{told.name}", told.description or "", parameters), server, told.name)


async def described(connection: McpConnection) -> Json:
    """As GET /v1/mcp tells it."""
    own: Json = {"server": connection.server.name, "tools": [], "error": None}
    try:
        await connection.reach()
    except McpFailed as error:
        return {**own, "error": str(error)}
    return {**own, "tools": [{"name": tool.name, "description": tool.description or ""} for tool in connection.tools()]}


def listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"
