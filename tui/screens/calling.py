"""The calls of an answer: asked about, run one after the other, and told to the model, which goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from ..calls import BROKEN_OFF, CallState, ToolUse

if TYPE_CHECKING:
    from mlxrun.client.mcp.connection import ToolResult
    from mlxrun.client.mcp.connections import LentTool

    from ..host import Host
    from ..widgets.call import CallCard
    from ..widgets.message import AssistantMessage

ROUNDS = 8  # in which tools may be called


class ToolRuns:
    """Of one answer. `stop` may come at any time, and what is still to be called is not."""

    def __init__(self, host: Host, view: AssistantMessage) -> None:
        self._host, self._view = host, view
        self._waits: asyncio.Future[str] | asyncio.Future[list[ToolResult]] | None = None
        self._asked = ""  # the call that waits for a word
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        if self._waits is not None:
            self._waits.cancel()

    def decide(self, call: str, word: str) -> None:
        if call == self._asked and self._waits is not None and not self._waits.done():
            self._waits.set_result(word)  # type: ignore[arg-type]  # while a call is asked about a word is awaited

    async def run(self, use: ToolUse) -> ToolUse:
        """What came of it."""
        card = await self._view.add_call(use)
        lent = self._host.tools.get(use.name)
        try:
            use = await self._run(use, lent, card)
        except asyncio.CancelledError:
            if not self.stopped:
                raise
            broken_off = card.use.state is CallState.RUNNING
            state, result = (CallState.FAILED, BROKEN_OFF) if broken_off else (CallState.DENIED, "")
            use = replace(use, state=state, result=result)
        card.use = use
        return use

    async def _run(self, use: ToolUse, lent: LentTool | None, card: CallCard) -> ToolUse:
        if lent is None:
            return replace(use, state=CallState.FAILED, result=f"There is no tool {use.name}.")
        if self.stopped or not await self._may(use, lent, card):
            return replace(use, state=CallState.DENIED)
        card.use = use = replace(use, state=CallState.RUNNING)
        called = self._waits = asyncio.wrap_future(self._host.toolbox.call(lent, use.arguments))
        result = (await called)[0]
        self._waits = None
        return replace(use, state=CallState.FAILED if result.failed else CallState.DONE, result=result.text)

    async def _may(self, use: ToolUse, lent: LentTool, card: CallCard) -> bool:
        if self._host.may_call(lent):
            return True
        decided: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waits, self._asked = decided, use.id
        self._view.waiting = "waits for your word"
        self._host.call_waits(card)
        word = await decided
        self._waits, self._view.waiting = None, ""
        if word == "always":
            self._host.allow(lent)
        self._host.call_decided()
        return word != "no"
