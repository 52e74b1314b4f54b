"""`python -m mlxrun serve` as its own process, and what can be asked of it from outside."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

READY = re.compile(r"answers at (http://\S+)/v1")
SECONDS = 120  # for anything that is waited for


@dataclass
class Serving:
    process: subprocess.Popen[str]
    url: str
    said: list[str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=SECONDS, **more) if body else self.raw(path, **more)

    def raw(self, path: str, **more: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=SECONDS, **more)

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=SECONDS).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(name + r"[ {]", line))

    def idle(self) -> None:
        """Wait until no answer is on its way."""
        deadline = time.monotonic() + SECONDS
        while self.metric("mlxrun_answers_running") or self.metric("mlxrun_answers_waiting"):
            assert time.monotonic() < deadline, "answers are left running"

    def resident(self) -> int:
        """Bytes of memory."""
        told = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True)
        return 1024 * int(told.stdout)

    def held(self) -> int:
        """Bytes of memory beside what sequences remember, which has a limit of its own."""
        return self.resident() - int(httpx.get(f"{self.url}/memory", timeout=SECONDS).json()["cache"])

    def answers(self) -> bool:
        said = self.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        return said.status_code == 200 and self.process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mlxrun", "serve", *arguments]


@contextmanager
def serving(*arguments: str) -> Iterator[Serving]:
    process = subprocess.Popen(command(*arguments, "--port", "0"), stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said.append(line)
            if found := READY.search(line):
                break
        else:
            raise AssertionError(f"the server did not start: {said}")
        yield Serving(process, found[1], said)
    finally:
        if process.poll() is None:
            process.kill()
        said.extend(process.communicate()[1].splitlines(keepends=True))
