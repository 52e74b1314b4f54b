"""Waiting for a screen and reading what stands on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mlxrun.tui.app import Chat
from mlxrun.tui.backend import Phase
from mlxrun.tui.widgets.prompt import Prompt
from textual.pilot import Pilot

TRIES = 1000


async def until(pilot: Pilot[None], true: Callable[[], object], what: str = "") -> None:
    for _ in range(TRIES):
        if true():
            await pilot.pause()
            return
        await pilot.pause(0.01)
    raise AssertionError(f"never came true: {what}\n{seen(pilot.app)}")


def seen(app: object) -> str:
    """The screen as text, line by line, trailing blanks cut."""
    assert isinstance(app, Chat)
    width = app.size.width
    strips = app.screen._compositor.render_strips()
    lines = ["".join(segment.text for segment in strip)[:width].rstrip() for strip in strips]
    return "\n".join(lines)


async def shows(pilot: Pilot[None], *texts: str) -> None:
    await until(pilot, lambda: all(text in seen(pilot.app) for text in texts), f"{texts} on the screen")


async def hides(pilot: Pilot[None], text: str) -> None:
    await until(pilot, lambda: text not in seen(pilot.app), f"{text!r} gone")


def prompt(pilot: Pilot[None]) -> Prompt:
    assert isinstance(pilot.app, Chat)
    return pilot.app.chat.query_one(Prompt)


async def send(pilot: Pilot[None], text: str) -> None:
    prompt(pilot).load(text)
    await pilot.press("enter")


async def idle(pilot: Pilot[None]) -> None:
    app = pilot.app
    assert isinstance(app, Chat)
    await until(pilot, lambda: not app.chat.busy, "the answer ended")


@asynccontextmanager
async def running(app: Chat, size: tuple[int, int] = (80, 24), *, ready: bool = True) -> AsyncIterator[Pilot[None]]:
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.chat.talk is not None, "the sessions are open")
        if ready:
            await until(pilot, lambda: app.model.phase is Phase.READY, "the model is there")
        yield pilot
        app.chat.leave()


def gate() -> threading.Event:
    return threading.Event()


def in_app(test):
    """An async test as a plain one."""

    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
