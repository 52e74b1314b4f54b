"""One browser a module: while it is open, its event loop is in the way of tests that run one of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .browser import Talk, browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Talk]]:
    """Opens a page as somebody new; the keywords are Playwright's of a browser's context."""
    contexts = []

    def new(url: str, **given: Any) -> Talk:
        contexts.append(context := chromium.new_context(**given))
        return Talk(context.new_page()).open(url)

    yield new
    for context in contexts:
        context.close()
