"""Models that clients ask to have fetched, where `serve --allow-pull` lets them: each by a process of its own, `mlxrun
pull`, which ends when nobody waits for it any more. What has arrived is kept, and the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from .check import shown
from .dialect import Json
from .errors import LATER, ApiError

MOST = 2  # at once
COMMAND = (sys.executable, "-m", "mlxrun", "pull", "--json", "--")


class Pulls:
    def __init__(
        self, may: Callable[[str], bool], arrived: Callable[[str, Path], None], command: Sequence[str] = COMMAND
    ) -> None:
        """`may`: whether that is a name that can be fetched. `arrived`: offers it from now on."""
        self._may, self._arrived, self._command = may, arrived, tuple(command)
        self._running = 0

    async def fetched(self, name: str) -> AsyncGenerator[Json, None]:
        """How far it is, now and then: {"completed", "total", "digest"}; it is offered when this ends. Raises an
        ApiError; whoever leaves closes this, and the fetching ends."""
        if not self._may(name):
            wanted = "org/name of the Hugging Face hub, with :TAG behind it or not, or a short name such as qwen3:4b"
            raise ApiError(404, f"there is no model {shown(name)} to fetch: wanted is {wanted}")
        if self._running >= MOST:
            raise ApiError(503, f"{MOST} models are being fetched already; try again later", headers=LATER)
        self._running += 1
        try:
            async with aclosing(self._lines(name)) as lines:
                async for line in lines:
                    yield line
        finally:
            self._running -= 1

    async def _lines(self, name: str) -> AsyncGenerator[Json, None]:
        process = await asyncio.create_subprocess_exec(*self._command, name, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        try:
            assert process.stdout is not None
            async for raw in process.stdout:
                line = json.loads(raw)
                if "error" in line:
                    raise ApiError(502, line["error"])
                if "place" in line:
                    self._arrived(name, Path(line["place"]))
                    return
                yield line
            raise ApiError(500, f"{shown(name)} could not be fetched: what fetches it died")
        finally:
            await ended(process)


async def ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
