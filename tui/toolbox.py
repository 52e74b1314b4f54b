"""Tools of MCP servers for the chat: which servers there are, which of their tools may run without a person's word.

A tool that changed since it was allowed, by its description, its arguments or its server, is asked about again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlxrun.client.mcp.connection import ToolResult
    from mlxrun.client.mcp.connections import Connections, LentTool


@dataclass(frozen=True, slots=True)
class Reached:
    """A server, what it offers, or why it cannot be reached."""

    server: str
    tools: tuple[LentTool, ...] = ()
    reason: str = ""


class McpToolbox:
    def __init__(self, file: Path | None = None) -> None:
        """`file`: that names the servers; None: the usual one. Nothing is read or started before it is asked for."""
        self._file, self._lock = file, threading.Lock()
        self._opened: Connections | None = None

    @property
    def file(self) -> Path:
        from mlxrun.client.mcp.file import place

        return place() if self._file is None else self._file

    def reach(self, names: Iterable[str] | None = None) -> list[Reached]:
        """These servers, or all of them; may take its time. A RequestError: there is no such server, or no file."""
        from mlxrun.core import RequestError

        connections = self._connections()
        known = connections.servers
        wanted = list(known if names is None else names)
        if strange := [name for name in wanted if name not in known]:
            raise RequestError(f"{self.file} names no server {strange[0]!r}; it has {', '.join(known) or 'none'}.")
        return [self._reached(name, future) for name, future in [(one, connections.reach(one)) for one in wanted]]

    def _reached(self, server: str, future: Future[None]) -> Reached:
        from mlxrun.client.mcp.connection import McpFailed

        try:
            future.result()
        except McpFailed as error:
            return Reached(server, reason=str(error))
        return Reached(server, tuple(self._connections().tools(server, all_of_them=True).values()))

    def allowed_by_file(self, lent: LentTool) -> bool:
        return lent.name in self._connections().servers[lent.server].allow

    def digest(self, lent: LentTool) -> str:
        """What a person said yes to."""
        server = self._connections().servers[lent.server]
        told = [asdict(server) | {"allow": None}, lent.tool.name, lent.tool.description, lent.tool.parameters]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def call(self, lent: LentTool, arguments: str) -> Future[list[ToolResult]]:
        return self._connections().call([(lent, arguments)])

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _connections(self) -> Connections:
        from mlxrun.client.mcp.connections import Connections
        from mlxrun.client.mcp.file import read_servers

        with self._lock:
            if self._opened is None:
                self._opened = Connections(read_servers(self.file), "/tools")
            return self._opened


def by_name(reached: Iterable[Reached]) -> Mapping[str, LentTool]:
    """As the model knows them."""
    return {lent.tool.name: lent for one in reached for lent in one.tools}
