"""/: for a browser the page to chat with, for any other program the sentence that Ollama says there.

The page is one document: what stands beside this file is joined here, once, as a server starts. It may run its own
script and wear its own style, both known by their hashes, and ask this server; whatever a model writes, the browser
loads nothing and runs nothing because of it. Knows no model: the page asks the endpoint as any program does.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

STYLES = ("page.css",)
SCRIPTS = (  # in this order: each uses only what stands before it when it is read
    "dom.js",
    "highlight.js",
    "inline.js",
    "markdown.js",
    "api.js",
    "chats.js",
    "messages.js",
    "page.js",
    "controls.js",
)
RUNNING = "Ollama is running"  # programs for Ollama look for these words before they ask anything else


class WebPage:
    def __init__(self) -> None:
        style, script = joined(STYLES), f'"use strict";\n(() => {{\n{joined(SCRIPTS)}}})();\n'
        text = read("page.html")
        text = text.replace("<style></style>", f"<style>{style}</style>")
        self._text = text.replace("<script></script>", f"<script>{script}</script>")
        self._headers = {
            "content-security-policy": policy(style, script),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-cache",
            "vary": "accept",
        }

    async def answer(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self._text, headers=self._headers)
        return PlainTextResponse(RUNNING, headers={"vary": "accept"})


def policy(style: str, script: str) -> str:
    rules = {
        "default-src": "'none'",
        "script-src": source(script),
        "style-src": source(style),
        "connect-src": "'self'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",  # no text becomes HTML or a script, not even by mistake
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def joined(names: Sequence[str]) -> str:
    return "\n".join(read(name) for name in names)


def read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
