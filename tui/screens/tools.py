"""Which MCP servers there are and what they offer, told in words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..backend import BROKEN
from ..toolbox import Reached

if TYPE_CHECKING:
    from ..host import Host

MOST = 12  # tools of a server that are named


async def reach_tools(host: Host, names: Sequence[str]) -> tuple[str, bool]:
    """What is told, and whether all of them were reached; without names all that there are are asked."""
    try:
        reached = await asyncio.to_thread(host.reach_tools, names)
    except BROKEN as error:
        return str(error), False
    if not reached:
        return f"{host.toolbox.file} names no MCP server.", False
    lines = [told_of(host, one) for one in reached]
    if not names:
        lines.append("/tools SERVER lends them to this session.")
    return "\n\n".join(lines), not any(one.reason for one in reached)


def told_of(host: Host, one: Reached) -> str:
    if one.reason:
        return one.reason
    named = [f"{lent.name}{' (always)' * host.may_call(lent)}" for lent in one.tools[:MOST]]
    more = f" and {len(one.tools) - MOST} more" if len(one.tools) > MOST else ""
    return f"{one.server}: {', '.join(named) or 'no tools'}{more}"
