"""Who may ask at all: the names we answer to, the web pages we trust, the key.

A page on the web can make a browser ask 127.0.0.1: by a name of its own that it points there (then Host
is not ours), or directly (then Origin is not ours, or Sec-Fetch-Site says so). An address as Host is always meant:
no name was looked up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .check import shown
from .errors import ApiError

Refuse = Callable[[str, ApiError], Response]
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(:\d{1,5})?")
APPS = "apps"  # in place of an origin: programs that are pages inside, of which a browser opens none
APP_ORIGIN = r"(tauri|app|vscode-webview)://[A-Za-z0-9._-]+"
MOST_HEADERS = 32 << 10  # bytes
CLOSE = {"connection": "close"}  # what follows cannot be understood
READING = ("GET", "HEAD", "OPTIONS")  # change nothing and cost little
CLIENT = "mlxrun.client"  # in a request's scope: who asks, where several have keys of their own
OPEN = ("/", "/health", "/docs", "/openapi.json")  # tell nothing about anyone, so they need no key


class Guard:
    def __init__(
        self, app: ASGIApp, *, names: Iterable[str], origins: Collection[str], key: str | None, refusal: Refuse
    ) -> None:
        """`key`: one, or several with spaces between. `refusal`: a path and an error to the response that says so
        there."""
        self._app, self._refusal = app, refusal
        self._names = {"localhost", *(name.lower() for name in names)}
        self._origins = frozenset(origins) - {APPS}
        self._apps = re.compile(APP_ORIGIN) if APPS in origins else None
        self._keys = () if key is None else tuple(one.encode() for one in key.split())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                check_framing(scope["headers"])
                scope[CLIENT] = self._checked(Headers(scope=scope), scope["path"], scope["method"])
            except ApiError as error:
                await self._refusal(scope["path"], error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _checked(self, headers: Headers, path: str, method: str) -> str:
        """Who asks; empty where there is nobody to tell apart."""
        host = headers.get("host", "")
        if not self._ours(host):
            message = f"This server does not answer to the name {shown(host)}; use its address, or --allow-host."
            raise ApiError(403, message)
        self._check_page(headers, host, method)
        return self._client(headers) if self._keys and path not in OPEN and method != "OPTIONS" else ""

    def _check_page(self, headers: Headers, host: str, method: str) -> None:
        origin = headers.get("origin")
        if origin is not None and (self._listed(origin) or origin.partition("://")[2] == host):
            return
        if origin is not None:
            message = f"Pages of {shown(origin)} may not ask this server; --allow-origin would let them."
            raise ApiError(403, message)
        if method not in READING and headers.get("sec-fetch-site", "").lower() == "cross-site":
            raise ApiError(403, "Pages of another site may not ask this server; --allow-origin would let them.")

    def _listed(self, origin: str) -> bool:
        return origin in self._origins or (self._apps is not None and self._apps.fullmatch(origin) is not None)

    def _ours(self, host: str) -> bool:
        name = host_name(host)
        return name in self._names or is_address(name)

    def _client(self, headers: Headers) -> str:
        """By the key, as Authorization: Bearer, or as x-api-key: one that is right is enough."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = (token.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", ""))
        # bytes: comparing texts refuses what is not ASCII
        found = [key for key in self._keys for one in given if hmac.compare_digest(one.encode(), key)]
        if not found:
            message = "This server needs its key, as the header Authorization: Bearer KEY or x-api-key: KEY."
            raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        return "" if len(self._keys) == 1 else hashlib.sha256(found[0]).hexdigest()


def check_framing(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """What h11 lets pass."""
    if sum(len(name) + len(value) for name, value in headers) > MOST_HEADERS:
        raise ApiError(431, f"The headers are larger than {MOST_HEADERS} bytes.", headers=CLOSE)
    names = {name.lower() for name, _ in headers}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise ApiError(400, "Content-Length and Transfer-Encoding both say how long the body is.", headers=CLOSE)


def host_name(host: str) -> str:
    """Without port and brackets; empty: it is no Host."""
    found = HOST.fullmatch(host)
    return "" if found is None else found[1].strip("[]").lower().rstrip(".")


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
