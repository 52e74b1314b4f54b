"""The app in a terminal of its own, as a process: typed to through a pty, killed, and opened again."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlxrun.tui.sessions import Sessions

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60  # for anything that is waited for
APP = """
import sys, threading
from pathlib import Path
from tests.tui.fakes import FakeBackend, FakeClient, said
from mlxrun.tui.app import Chat

gate = threading.Event()
client = FakeClient(answers=[said("Once upon a time."), said("Once upon a time.")], gate=gate)
client.answers[0] = client.answers[0][:2] + client.answers[0]  # the first pieces come, the rest never does
backend = FakeBackend([client])
backend.loaded.set()
Chat(backend, Path(sys.argv[1])).run()
"""


class Terminal:
    def __init__(self, file: int, process: subprocess.Popen[bytes]) -> None:
        self.file, self.process, self.drawn = file, process, b""

    def until(self, text: bytes) -> None:
        """Wait until it was drawn; what was drawn before is forgotten then."""
        deadline = time.monotonic() + SECONDS
        while text not in self.drawn:
            assert time.monotonic() < deadline, f"{text!r} was never drawn: {self.drawn[-500:]!r}"
            if select.select([self.file], [], [], 0.1)[0]:
                self.drawn += os.read(self.file, 1 << 16)
        self.drawn = b""

    def write(self, text: bytes) -> None:
        os.write(self.file, text)

    def drain(self) -> int:
        """What it still draws is read, or it could not end; its exit code."""
        while self.process.poll() is None:
            if select.select([self.file], [], [], 0.1)[0]:
                try:
                    os.read(self.file, 1 << 16)
                except OSError:  # the other side is closed
                    break
        return self.process.wait(SECONDS)


@contextmanager
def terminal(sessions: Path, columns: int = 80) -> Iterator[Terminal]:
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", APP, str(sessions)]
    process = subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, env=environ, cwd=ROOT, start_new_session=True
    )
    os.close(there)
    try:
        yield Terminal(here, process)
    finally:
        process.kill()
        process.wait()
        os.close(here)


def test_killed_while_it_answers_and_opened_again(tmp_path: Path) -> None:
    place = tmp_path / "sessions.db"
    with terminal(place) as first:
        first.until(b"is ready")
        first.write(b"Tell me\r")
        first.until(b"Once")
        saved(place, "Once")
        first.process.send_signal(signal.SIGKILL)
        assert first.process.wait(SECONDS) == -signal.SIGKILL
    with terminal(place, columns=40) as second:
        second.until(b"interrupted")
        second.write(b"a draft")
        second.until(b"draft")
        second.write(b"\x11")  # ctrl+q
        assert second.drain() == 0
    kept = Sessions.open(place)
    found = kept.last()
    assert found is not None
    assert (found.title, found.draft) == ("Tell me", "a draft")
    assert [turn.role for turn in kept.turns(found.id)] == ["user", "assistant"]
    kept.close()


def saved(place: Path, text: str) -> None:
    """Wait until the answer that grows is on disk; it is saved several times a second."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        reader = Sessions.open(place)
        last = reader.last()
        turns = reader.turns(last.id) if last else []
        reader.close()
        if turns and text in turns[-1].content:
            return
    raise AssertionError(f"{text!r} was never saved")
