"""Draws docs/tui.svg and docs/tui-light.svg, the pictures in the README: the terminal UI as it really ran.

    python docs/tui_picture.py [QUESTION ...]

A model is loaded, the questions are typed, and once the last answer is there the screen is exported as it stands.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from mlxrun.tui.app import Chat
from mlxrun.tui.backend import STARTER, OpenedClient, Phase, Progress, ThisMachine, unwatched
from mlxrun.tui.theme import DARK, LIGHT
from mlxrun.tui.widgets.prompt import Prompt
from textual.pilot import Pilot

SIZE = (88, 24)
QUESTIONS = ("What is the capital of France?", "List three kinds of tea, with one short sentence each.")
HERE = Path(__file__).parent
WEB_FONT = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)  # the picture must not fetch anything


class Here(ThisMachine):
    """Whatever servers run: the starter model in this process."""

    def open(self, name: str, server: str | None = None, *, join: bool, progress: Progress = unwatched) -> OpenedClient:
        return super().open(STARTER, None, join=False)


async def idle(pilot: Pilot[None], app: Chat) -> None:
    while app.model.phase is Phase.OPENING or app.chat.talk is None or app.chat.busy:
        await pilot.pause(0.05)


async def draw(questions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = Chat(Here(), Path(folder) / "sessions.db")
        async with app.run_test(size=SIZE) as pilot:
            await idle(pilot, app)
            for question in questions:
                app.chat.query_one(Prompt).load(question)
                await pilot.press("enter")
                await pilot.pause(0.2)
                await idle(pilot, app)
            await pilot.pause(1.5)  # the memory is looked at once a second
            for theme, name in ((DARK, "tui.svg"), (LIGHT, "tui-light.svg")):
                app.theme = theme.name
                await pilot.pause(0.2)
                svg = WEB_FONT.sub("", app.export_screenshot(title="mlxrun"))
                (HERE / name).write_text(svg, encoding="utf-8")
        if app.client is not None:
            app.client.close()


if __name__ == "__main__":
    asyncio.run(draw(sys.argv[1:] or list(QUESTIONS)))
