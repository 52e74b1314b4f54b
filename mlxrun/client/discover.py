"""Finding a server that runs on this machine, by asking its /health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .http import BROKEN, Address

PORTS = (8080,)
SECONDS = 0.3  # nobody waits long for a server that may not be there


def find_server(ports: Sequence[int] = PORTS, *, host: str = "127.0.0.1", seconds: float = SECONDS) -> str | None:
    """The address of the first mlxrun server that answers; None where there is none."""
    for port in ports:
        address = Address(f"http://{host}:{port}")
        try:
            status, health = address.get("/health", seconds)
        except BROKEN:
            continue
        if status == 200 and isinstance(health, Mapping) and health.get("server") == "mlxrun":
            return address.url
    return None
