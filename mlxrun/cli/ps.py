"""mlxrun ps: the models that a running server has loaded, what each holds, and how long it will."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ..core import RequestError
from .terminal import tell

HELP = "list the models that a running server has loaded"
SECONDS = 5.0
HEADS = ("NAME", "HOLDS", "IN USE BY", "GOES")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", metavar="URL", default="http://127.0.0.1:8080", help="the server's address")


def main(flags: argparse.Namespace) -> int:
    from ..client.http import BROKEN, Address

    address = Address(flags.at)
    try:
        _, health = address.get("/health", SECONDS)
    except BROKEN as error:
        raise RequestError(f"No server answers at {address.url} ({error}); 'mlxrun serve' starts one.") from error
    if not isinstance(health, Mapping) or health.get("server") != "mlxrun":
        raise RequestError(f"What answers at {address.url} is no server of mlxrun's.")
    rows = [HEADS, *map(row_of, health.get("models", ()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    tell(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))
    return 0


def row_of(model: Mapping[str, Any]) -> tuple[str, ...]:
    from .show import size

    holds = "loading" if model["bytes"] is None else size(model["bytes"])
    return str(model["name"]), holds, used_by(model["requests"]), when(model)


def used_by(requests: int) -> str:
    return "nobody" if not requests else f"{requests} request{'s' * (requests != 1)}"


def when(model: Mapping[str, Any]) -> str:
    if model["unloads_in_seconds"] is not None:
        return f"in {model['unloads_in_seconds']:.0f} s"
    if model["pinned"]:
        return "never"
    return "when others need its memory" if not model["requests"] else "not while it is in use"
