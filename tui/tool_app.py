"""The app's tools: MCP servers that were reached, and which of their tools a person allowed for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .backend import Backend
from .model_app import ModelApp
from .toolbox import McpToolbox, Reached, by_name

if TYPE_CHECKING:
    from mlxrun.client.mcp.connections import LentTool

    from .widgets.call import CallCard

ALLOWED = "tool."  # before the names of tools among the settings


class ToolApp(ModelApp):
    def __init__(self, backend: Backend, toolbox: McpToolbox) -> None:
        super().__init__(backend)
        self.toolbox = toolbox
        self._tools: Mapping[str, LentTool] = {}

    @property
    def tools(self) -> Mapping[str, LentTool]:
        return self._tools

    def reach_tools(self, names: Sequence[str]) -> list[Reached]:
        reached = self.toolbox.reach(names or None)
        self._tools = {**self._tools, **by_name(reached)}
        return reached

    def may_call(self, lent: LentTool) -> bool:
        allowed = self.sessions.setting(ALLOWED + lent.tool.name)
        return self.toolbox.allowed_by_file(lent) or allowed == self.toolbox.digest(lent)

    def allow(self, lent: LentTool) -> None:
        self.sessions.remember(ALLOWED + lent.tool.name, self.toolbox.digest(lent))

    def call_waits(self, card: CallCard) -> None:
        self.chat.call_waits(card)

    def call_decided(self) -> None:
        self.chat.choose_prompt()
