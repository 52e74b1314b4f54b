"""Lends tools of MCP servers to chats: by name, and only those that the file allows.

Every method may be called from any thread but that of the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ...client.mcp.connection import McpFailed, ToolResult
from ...client.mcp.connections import Connections, LentTool
from ...client.mcp.file import McpServer
from ..check import shown
from ..dialect import Json
from ..errors import ApiError

FIELD = "mlxrun_mcp"
NEXT = 4  # threads that render what a model is asked next


class Lender:
    def __init__(self, servers: Sequence[McpServer]) -> None:
        self._connections = Connections(servers, "--mcp")
        self.pool = ThreadPoolExecutor(NEXT, "mlxrun-mcp-next")

    async def reach(self, names: Sequence[str]) -> None:
        """Every server of these, on the loop of whoever asks. Raises an ApiError."""
        servers = dict.fromkeys(self._server(name) for name in names)
        reached = [self._connections.reach(server) for server in servers]
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
            offered = self._connections.tools(server)
            if tool and tool not in offered:
                raise ApiError(
                    400, f"{FIELD}: {shown(name)} is not lent; of {server} are {listed(offered)}.", param=FIELD
                )
            for one in [offered[tool]] if tool else offered.values():
                lent[one.tool.name] = one
        return lent

    def _server(self, asked: str) -> str:
        server, known = asked.partition(".")[0], self._connections.servers
        if server not in known:
            raise ApiError(
                400, f"{FIELD}: there is no MCP server {shown(asked)} here; there are {listed(known)}.", param=FIELD
            )
        return server

    def call(self, calls: Sequence[tuple[LentTool, str]]) -> Future[list[ToolResult]]:
        """All at once, of arguments as a model wrote them: JSON objects as text. Raises nothing."""
        return self._connections.call(calls)

    async def described(self) -> list[Json]:
        """As GET /v1/mcp tells it; on the loop of whoever asks."""
        errors = await asyncio.wrap_future(self._connections.reached())
        return [{"server": name, "tools": self._told(name, why), "error": why or None} for name, why in errors.items()]

    def _told(self, server: str, why: str) -> list[Json]:
        lent = {} if why else self._connections.tools(server)
        return [{"name": name, "description": one.tool.description} for name, one in lent.items()]

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._connections.close()


def listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"
