"""npm's @anthropic-ai/sdk against a scripted engine on a socket: its accumulator is the oracle. See `make clients`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.scripted import ScriptedEngine, server
from tests.server.test_dialects import running

from .test_clients import FOLDER, HERE

pytestmark = pytest.mark.skipif(
    not (FOLDER / "node_modules" / "@anthropic-ai" / "sdk").is_dir(),
    reason=f"@anthropic-ai/sdk is not installed in {FOLDER}: make clients",
)
SAID = '<think>Hm.</think>I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


async def cases(script: Path) -> dict[str, dict[str, Any]]:
    own, _ = server(ScriptedEngine(SAID, context=5000))

    async def asked(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
        pipe = asyncio.subprocess.PIPE
        ran = await asyncio.create_subprocess_exec("node", str(script), str(client.base_url), stdout=pipe, stderr=pipe)
        told, wrong = await ran.communicate()
        assert ran.returncode == 0, wrong.decode()
        return {one.pop("case"): one for one in map(json.loads, told.decode().splitlines())}

    async with running(own) as client:
        return await asked(client)


def test_messages_calls_counts_and_errors() -> None:
    script = FOLDER / "messages.mjs"  # beside node_modules, where Node looks for packages
    script.write_text((HERE / "messages.mjs").read_text(encoding="utf-8"), encoding="utf-8")
    told = asyncio.run(asyncio.wait_for(cases(script), 120))
    whole, stream = told["whole"], told["stream"]
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    assert whole["content"][2]["input"] == {"city": "Bern"}
    assert (stream["content"], stream["stop"]) == (whole["content"], "tool_use")
    assert (stream["kinds"][0], stream["kinds"][-1]) == ("message_start", "message_stop")
    assert told["count"]["counted"] == told["count"]["used"]
    assert (told["error"]["kind"], told["error"]["status"]) == ("NotFoundError", 404)
    assert told["error"]["id"].startswith("req_")
