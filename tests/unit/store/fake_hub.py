"""A hub on this machine: just enough of its interface for the hub's own library to fetch a model from it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".gguf")  # kept under its SHA-256, as the hub keeps large files


REFUSALS = [  # (status, the hub's own word for it, what a person is told)
    (401, None, "does not accept your token"),
    (403, "GatedRepo", "accept their terms"),
    (404, "RepoNotFound", "has no model org/name"),
    (429, None, "too many requests"),
    (500, None, "out of order"),
    (503, None, "out of order"),
]


def printed_by_two(code: str, cache: Path) -> set[str]:
    """What two processes print that run this at the same time, against the fake hub and with that cache."""
    own = {"HF_ENDPOINT": huggingface_hub.constants.ENDPOINT, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    command, environ = [sys.executable, "-c", code], {**os.environ, **own}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) for _ in range(2)]
    return {process.communicate(timeout=120)[0].strip() for process in both}


def git_digest(raw: bytes) -> str:
    return hashlib.sha1(f"blob {len(raw)}\0".encode() + raw, usedforsecurity=False).hexdigest()


@dataclass
class FakeHub:
    files: dict[str, bytes]
    status: int = 200  # what every question is answered with
    code: str | None = None  # the hub's own word for it
    refuses: dict[str, int] = field(default_factory=dict)  # file -> what it is answered with
    ignores_ranges: bool = False
    stops_after: int | None = None  # bytes of a large file, then the line goes dead
    dies: bool = False  # and afterwards the file is refused
    damages: set[str] = field(default_factory=set)  # files that arrive otherwise than they are said to be
    lies: dict[str, int] = field(default_factory=dict)  # file -> the size that the list of files tells
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)  # that a search finds

    def digest(self, name: str) -> str:
        raw = self.files[name]
        return hashlib.sha256(raw).hexdigest() if name.endswith(LARGE) else git_digest(raw)

    def siblings(self) -> list[dict[str, Any]]:
        found = []
        for entry in self.tree():
            size = self.lies.get(entry["path"], entry["size"])
            told = {"rfilename": entry["path"], "size": size, "blobId": entry["oid"]}
            if "lfs" in entry:
                told["lfs"] = {"sha256": entry["lfs"]["oid"], "size": size, "pointerSize": 134}
            found.append(told)
        return found

    def tree(self) -> list[dict[str, Any]]:
        found = []
        for name, raw in self.files.items():
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(raw), "oid": git_digest(raw)}
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": self.digest(name), "size": len(raw), "pointerSize": 134}
            found.append(entry)
        return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        if hub.status != 200:
            code = {"X-Error-Code": hub.code} if hub.code else {}
            self._send(hub.status, b'{"error": "no"}', code, body=body)
        elif path == "/api/models":
            self._send(200, json.dumps(hub.models).encode(), {}, body=body)
        elif path.startswith("/api/models/") and "/tree/" in path:
            self._send(200, json.dumps(hub.tree()).encode(), {}, body=body)
        elif path.startswith("/api/models/"):
            told = {"id": "org/name", "sha": COMMIT, "siblings": hub.siblings()}
            self._send(200, json.dumps(told).encode(), {}, body=body)
        elif (name := path.partition("/resolve/")[2].partition("/")[2]) in hub.files:
            self._file(name, body=body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body=body)

    def _file(self, name: str, *, body: bool) -> None:
        hub, raw = self.hub, self.hub.files[name]
        if name in hub.refuses:
            self._send(hub.refuses[name], b"{}", {"X-Error-Code": hub.code} if hub.code else {}, body=body)
            return
        headers = {"ETag": f'"{hub.digest(name)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        raw = bytes(len(raw)) if name in hub.damages else raw
        start, status = 0, 200
        if (asked := self.headers.get("Range")) and not hub.ignores_ranges:
            hub.ranges.append(f"{name} {asked}")
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(raw)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(raw)) - 1}/{len(raw)}"
            raw, status = raw[start:end], 206
        if body and hub.stops_after is not None and name.endswith(LARGE):
            if hub.dies:
                hub.refuses[name] = 503
            self._send(status, raw, headers, body=False)
            self.wfile.write(raw[: hub.stops_after])
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()
        else:
            self._send(status, raw, headers, body=body)

    def _send(self, status: int, raw: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(raw)


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def the_only_hub(hub: FakeHub, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """All that asks the hub asks this one; its cache and mlxrun's home are in the folder."""
    known = huggingface_hub.constants
    with serving(hub) as address:
        patch.setattr(known, "ENDPOINT", address)
        patch.setattr(known, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(known, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setattr(known, "HF_HUB_DISABLE_XET", True)
        patch.setenv("MLXRUN_HOME", str(folder / "home"))
        yield hub
