"""The sessions beside the conversation on a wide screen."""

from __future__ import annotations

from pathlib import Path

from mlxrun.tui.widgets.rail import SessionRail

from .fakes import chat, said
from .helpers import hides, idle, in_app, prompt, running, seen, send, shows, until


@in_app
async def test_the_latest_sessions_stand_beside_and_one_is_opened_by_key(folder: Path) -> None:
    app, _ = chat(folder, said("One."), said("Two."))
    async with running(app, (160, 40)) as pilot:
        await send(pilot, "first \x1b[31mone")
        await idle(pilot)
        await pilot.press("ctrl+n")
        await send(pilot, "second one")
        await idle(pilot)
        await shows(pilot, "● second one", "  first ␛[31mone", "Two.")
        await pilot.press("f2", "down", "enter")
        await shows(pilot, "● first ␛[31mone", "  second one", "One.")
        await until(pilot, lambda: prompt(pilot).has_focus, "one can write")
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.focused, SessionRail), "the rail has the focus")
        await pilot.press("escape")
        await until(pilot, lambda: prompt(pilot).has_focus, "it is left")
        await pilot.resize_terminal(120, 40)
        await hides(pilot, "second one")
        await pilot.press("f2")
        await shows(pilot, "─ Sessions ", "second one")


@in_app
async def test_narrow_screens_have_none(folder: Path) -> None:
    app, _ = chat(folder, said("One."))
    async with running(app, (120, 40)) as pilot:
        await send(pilot, "first one")
        await idle(pilot)
        assert seen(app).count("first one") == 2  # the title, and the message
