"""The file that names MCP servers, as other programs have it too: {"mcpServers": {NAME: {command, args, env} | {url}}}.

Beside it stands what is ours: `allow`, the tools that may be called without a person being asked. Keys that other
programs read from the same file are passed over. Knows no connection.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core import RequestError

NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
SECONDS = 60.0  # that a call may take
MOST_SECONDS = 3600.0


PLACE = "MLXRUN_MCP_FILE"  # the variable that names another file


def place(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where it is, where nobody names one."""
    if environ.get(PLACE):
        return Path(environ[PLACE]).expanduser()
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlxrun" / "mcp.json"
    config = environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if os.path.isabs(config) else Path.home() / ".config") / "mlxrun" / "mcp.json"


@dataclass(frozen=True)
class McpServer:
    name: str
    allow: tuple[str, ...]  # names of its tools
    command: str | None = None  # with args, env and cwd; or
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # more of it than what a program needs anyway
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS


def read_servers(path: Path) -> tuple[McpServer, ...]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise RequestError(f"{path} is no JSON: {error}.") from error
    servers = told.get("mcpServers") if isinstance(told, dict) else None
    if not isinstance(servers, dict):
        raise RequestError(f'{path} must be an object with "mcpServers", an object of servers by their names.')
    return tuple(_server(str(path), name, one) for name, one in servers.items() if not _disabled(one))


def _disabled(told: Any) -> bool:
    return isinstance(told, dict) and told.get("disabled") is True


def _server(path: str, name: str, told: Any) -> McpServer:
    at = f"{path}: mcpServers.{name}"
    if not NAME.fullmatch(name):
        raise RequestError(f"{path}: a server's name must be 1 to 40 letters, digits, _ or -, not {name!r}.")
    if not isinstance(told, dict):
        raise RequestError(f"{at} must be an object.")
    for key in ("command", "cwd", "url"):
        if not isinstance(told.get(key, ""), str):
            raise RequestError(f"{at}.{key} must be text.")
    if bool(told.get("command")) == bool(told.get("url")):
        raise RequestError(f"{at} must have either a command or a url.")
    seconds = told.get("timeout", SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MOST_SECONDS:
        raise RequestError(f"{at}.timeout must be a number of seconds up to {MOST_SECONDS:g}.")
    return McpServer(
        name,
        _texts(told.get("allow", []), f"{at}.allow"),
        told.get("command"),
        _texts(told.get("args", []), f"{at}.args"),
        _named(told.get("env", {}), f"{at}.env"),
        told.get("cwd"),
        told.get("url"),
        _named(told.get("headers", {}), f"{at}.headers"),
        float(seconds),
    )


def _texts(told: Any, at: str) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(one, str) for one in told):
        raise RequestError(f"{at} must be a list of texts.")
    return tuple(told)


def _named(told: Any, at: str) -> dict[str, str]:
    if not isinstance(told, dict) or not all(isinstance(one, str) for one in told.values()):
        raise RequestError(f"{at} must be an object of texts.")
    return told
