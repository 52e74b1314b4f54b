"""A headless browser, and a server over a real socket whose engine says what a script tells it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from mlxrun.core import Event, Finish, Usage
from mlxrun.server.run import address_of, listen
from tests.server.scripted import ScriptedEngine, server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ALL = bool(os.environ.get("MLXRUN_TEST_PAGE"))  # make page
make_page_only = pytest.mark.skipif(not ALL, reason="make page runs all that is tried in a browser")
WAIT = 60_000  # ms that anything may take on a busy machine


def path_of_browser() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = path_of_browser()
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        # as root Chromium runs only without its sandbox, and it meets nothing but our own page
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def served(engine: ScriptedEngine, port: int = 0, **config: Any) -> Iterator[str]:
    """Its address."""
    own, _ = server(engine, **config)
    listener = listen("127.0.0.1", port)
    process = uvicorn.Server(uvicorn.Config(own.app, ws="none", lifespan="off", log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(process.serve(sockets=[listener])))
    thread.start()
    try:
        yield address_of(listener)
    finally:
        own.stop()
        process.should_exit = process.force_exit = True
        thread.join()
        own.close()
        listener.close()


class Talk:
    """The page in a browser, and what a person does with it. Whatever the browser complains of is collected."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked_outside: list[str] = []
        page.set_default_timeout(WAIT)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, url: str, *, wait: bool = True) -> Talk:
        """Wait until the page knows the models, unless it cannot."""

        def note(address: str) -> None:
            if not address.startswith((url, "data:", "blob:")):
                self.asked_outside.append(address)

        self.page.on("request", lambda request: note(request.url))
        self.page.goto(url)
        if wait:
            self.page.wait_for_selector("#model option", state="attached")
        return self

    def ask(self, text: str) -> None:
        """And do not wait for the answer."""
        self.page.fill("#prompt", text)
        self.page.press("#prompt", "Enter")

    def answered(self, count: int = 1) -> None:
        """Wait until so many answers stand there and none is on its way."""
        self.page.wait_for_function(
            "count => document.querySelectorAll('.assistant:not(.running)').length === count"
            " && !document.querySelector('.running')",
            arg=count,
        )

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def facts(self, expression: str) -> Any:
        return self.page.evaluate(expression)


def say(engine: ScriptedEngine, text: str, *, end: bool = False) -> None:
    """To the latest who asked an engine that is held."""
    handle = engine.handles[-1]
    for token in text.encode():
        handle.post(Event((token,)))
    if end:
        handle.post(Event(finish=Finish.STOP, usage=Usage(10, 0, len(text), 0.5, 0.1)))


def stream_of(*deltas: dict[str, Any], finish: str = "stop") -> str:
    """A stream as the endpoint sends it, of what a scripted engine cannot say."""
    usage = {"prompt_tokens": 9, "completion_tokens": len(deltas), "total_tokens": 9 + len(deltas)}
    chunks: list[dict[str, Any]] = [
        *({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {"choices": [], "usage": usage},
    ]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
