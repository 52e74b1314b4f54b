"""The page on replicas, with a real nginx before two of them: `make replicas`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from mlxrun.machines.supervise import free_ports
from tests.server.process import SECONDS, Serving, serving
from tests.server.tiny import write_tiny

NGINX = os.environ.get("MLXRUN_TEST_NGINX", "")
pytestmark = pytest.mark.skipif(not NGINX, reason="it wants a real nginx: make replicas")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "machines.md"
WHOLE = """daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {page}
}}
"""
ASKED = {"prompt": "Once", "max_tokens": 400, "temperature": 0, "stream": True}
SESSIONS = [f"session {number}" for number in range(8)]


def of_page(replicas: list[Serving], port: int) -> str:
    """The configuration as the page tells it, but for addresses."""
    found = re.search(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    told = found[1].replace("listen 80;", f"listen 127.0.0.1:{port};").replace("fail_timeout=10s", "fail_timeout=1s")
    for number, replica in enumerate(replicas, 1):
        told = told.replace(f"10.0.0.{number}:8080", f"127.0.0.1:{replica.port}")
    assert "10.0.0" not in told
    return told


@contextmanager
def nginx(folder: Path, replicas: list[Serving]) -> Iterator[str]:
    port = free_ports(1)[0]
    (folder / "nginx.conf").write_text(WHOLE.format(folder=folder, page=of_page(replicas, port)))
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                httpx.get(f"{url}/health", timeout=SECONDS)
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)


class Streamed(threading.Thread):
    """A client that reads one answer."""

    def __init__(self, url: str, session: str) -> None:
        super().__init__()
        self.url, self.session = url, session
        self.began = threading.Event()
        self.lines: list[str] = []
        self.broke = False
        self.start()

    def run(self) -> None:
        headers = {"x-session": self.session}
        try:
            with httpx.stream(
                "POST", f"{self.url}/v1/completions", json=ASKED, timeout=SECONDS, headers=headers
            ) as answer:
                assert answer.status_code == 200
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self.began.set()
        except httpx.TransportError:
            self.broke = True
        finally:
            self.began.set()

    @property
    def whole(self) -> bool:
        return "data: [DONE]" in self.lines


def test_replicas_as_the_page_tells_it(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "tiny", 1024)
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(str(model), "--grace", "60")) for _ in range(2)]
        url = stack.enter_context(nginx(tmp_path, replicas))
        text = alone(replicas[0])
        homes = [home_of(url, replicas, session) for session in SESSIONS]
        assert set(homes) == {0, 1}, "both have some of the sessions"
        assert homes == [home_of(url, replicas, session) for session in SESSIONS], "and a session stays"

        clients = [Streamed(url, session) for session in SESSIONS]
        assert all(client.began.wait(SECONDS) for client in clients)
        assert not any(client.whole for client in clients), "pieces come before the end"
        replicas[1].process.send_signal(signal.SIGKILL)
        for client, home in zip(clients, homes, strict=True):
            client.join(SECONDS)
            if home == 0:
                assert said(client) == text
            else:
                assert not client.whole
        again = [Streamed(url, session) for session in SESSIONS]
        for client in again:
            client.join(SECONDS)
            assert said(client) == text, "the other answers for the one that is gone"

        drained(url, replicas[0], stack.enter_context(serving(str(model), "--port", str(replicas[1].port))), text)


def drained(url: str, old: Serving, new: Serving, text: str) -> None:
    """The second is back, and the first is told to end: what it is saying it says to the end, all else goes on."""
    deadline = time.monotonic() + SECONDS
    while not any(home_of(url, [old, new], session) for session in SESSIONS):
        assert time.monotonic() < deadline
    stays = next(session for session in SESSIONS if home_of(url, [old, new], session) == 0)
    client = Streamed(url, stays)
    assert client.began.wait(SECONDS)
    old.process.send_signal(signal.SIGTERM)
    later = Streamed(url, stays)
    later.join(SECONDS)
    client.join(SECONDS)
    assert said(client) == text
    assert said(later) == text
    assert old.process.wait(SECONDS) == 0


def home_of(url: str, replicas: list[Serving], session: str) -> int:
    """Which replica answers it."""
    before = [replica.metric("mlxrun_requests_total") for replica in replicas]
    body = {"prompt": "Once", "max_tokens": 1}
    assert httpx.post(f"{url}/v1/completions", json=body, headers={"x-session": session}, timeout=SECONDS).is_success
    after = [replica.metric("mlxrun_requests_total") for replica in replicas]
    grown = [now - then for now, then in zip(after, before, strict=True)]
    return grown.index(max(grown))


def alone(replica: Serving) -> str:
    client = Streamed(replica.url, "")
    client.join(SECONDS)
    return said(client)


def said(client: Streamed) -> str:
    assert client.whole, (client.session, client.broke, client.lines[-3:])
    return "".join(re.findall(r'"text":"((?:[^"\\]|\\.)*)"', "\n".join(client.lines)))
