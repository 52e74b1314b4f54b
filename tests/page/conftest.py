"""One browser a module: while it is open, its event loop is in the way of tests that run one of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import pytest

from mlxrun.server.page import read

from .browser import Talk, browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HTML_OF = """
function shown(text) {
  const holder = el("div");
  showMarkdown(holder, text);
  return [...holder.children].map((child) => child.outerHTML);
}
"""
NOTHING: Mapping[str, Any] = MappingProxyType({})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Talk]]:
    """Opens a page as somebody new. `routes`: what is answered there in the server's place; other keywords are
    Playwright's of a browser's context."""
    contexts = []

    def new(url: str, *, wait: bool = True, routes: Mapping[str, Any] = NOTHING, **given: Any) -> Talk:
        contexts.append(context := chromium.new_context(**given))
        for path, answer in routes.items():
            context.route(path, answer)
        return Talk(context.new_page()).open(url, wait=wait)

    yield new
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def markdown(chromium: Browser) -> Callable[[str], list[str]]:
    """The page's own Markdown, block by block as HTML."""
    page = chromium.new_page()
    page.goto("about:blank")
    scripts = "\n".join(read(name) for name in ("dom.js", "highlight.js", "inline.js", "markdown.js"))
    page.add_script_tag(content=scripts + HTML_OF)

    def shown(text: str) -> list[str]:
        return cast(list[str], page.evaluate("text => shown(text)", text))

    return shown
