"""Who may ask at all: the names we answer to, the web pages we trust, the key.

A page on the web can make a browser ask 127.0.0.1: by a name of its own that it points there (then Host
is not ours), or directly (then Origin is not ours). An address as Host is always meant: no name was looked up.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .check import shown
from .errors import ApiError

Refuse = Callable[[str, ApiError], Response]
OPEN = ("/health", "/docs", "/openapi.json")  # tell nothing about anyone, so they need no key


class Guard:
    def __init__(
        self, app: ASGIApp, *, names: Iterable[str], origins: Iterable[str], key: str | None, refusal: Refuse
    ) -> None:
        """`refusal`: a path and an error to the response that says so there."""
        self._app, self._refusal = app, refusal
        self._names = {"localhost", *(name.lower() for name in names)}
        self._origins = frozenset(origins)
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope), scope["path"], scope["method"])
            except ApiError as error:
                await self._refusal(scope["path"], error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, path: str, method: str) -> None:
        host = headers.get("host", "")
        if not self._ours(host):
            message = f"This server does not answer to the name {shown(host)}; use its address, or --allow-host."
            raise ApiError(403, message)
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != host:
            message = f"Pages of {shown(origin)} may not ask this server; --allow-origin would let them."
            raise ApiError(403, message)
        if self._key is not None and path not in OPEN and method != "OPTIONS":
            self._check_key(headers.get("authorization", ""))

    def _ours(self, host: str) -> bool:
        name = host_name(host)
        return name in self._names or is_address(name)

    def _check_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        # bytes: comparing texts refuses what is not ASCII
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key or b""):
            message = "This server needs its key, as the header Authorization: Bearer KEY."
            raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def host_name(host: str) -> str:
    """Without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
