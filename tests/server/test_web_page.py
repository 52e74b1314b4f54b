"""What is answered at /: the page for browsers, Ollama's words for programs. tests/page tries the page itself."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from .scripted import ask, server

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PAGE = Path(__file__).resolve().parents[2] / "mlxrun" / "server" / "page"
OUTSIDE = re.compile(r"""(?:src|href|url|import|fetch)\s*[=(]\s*["']?(?:https?:)?//""")
HTML_OF_TEXT = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_programs_are_told_what_those_for_ollama_look_for(accept: str | None) -> None:
    own, _ = server(key="secret")
    for method in ("GET", "HEAD"):
        told = ask(own, "/", method=method, headers={} if accept is None else {"accept": accept})
        assert told.status_code == 200
        assert told.text == ("Ollama is running" if method == "GET" else "")


def test_a_browser_gets_the_page_without_a_key() -> None:
    own, _ = server(key="secret")
    told = ask(own, "/", headers=BROWSER)
    assert (told.status_code, told.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ask(own, "/", headers={**BROWSER, "host": "evil.example"}).status_code == 403
    assert ask(own, "/", {}, headers=BROWSER).status_code == 405


def test_the_policy_lets_in_what_stands_in_the_page_and_nothing_else() -> None:
    told = ask(server()[0], "/", headers=BROWSER)
    rules = dict(rule.split(" ", 1) for rule in told.headers["content-security-policy"].split("; "))
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", told.text, re.DOTALL)
        assert rules.pop(name) == f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
    assert rules == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_page_names_no_place_outside_and_makes_no_html_of_text() -> None:
    for path in (PAGE / "page.html", PAGE / "page.css", *PAGE.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert not OUTSIDE.search(text), path.name
        assert not HTML_OF_TEXT.search(text), path.name
        assert text.count("\n") <= 400, path.name
        assert "</script" not in text or path.suffix == ".html"
