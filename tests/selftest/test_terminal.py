"""The part about the terminal, in a terminal, in none, and in one that is too small."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from mlxrun.selftest import terminal
from mlxrun.selftest.results import NotRun

from .heard import check_of, notes_of

LOOK = """
import json, os, sys
os.login_tty(int(sys.argv[1]))
from mlxrun.selftest import terminal
from tests.selftest.heard import notes_of
said, heard, notes = notes_of(terminal.look)
with os.fdopen(int(sys.argv[2]), "w") as out:
    json.dump([said, heard.numbers, notes.bad], out)
"""


def looked(columns: int, lines: int) -> tuple[str, dict, list[str]]:
    """By a process with a terminal of that size, whatever it writes to."""
    master, slave = pty.openpty()
    read, write = os.pipe()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        command = [sys.executable, "-c", LOOK, str(slave), str(write)]
        environ = {**os.environ, "TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal", "TMUX": "/tmp/secret,1"}
        environ.pop("COLORTERM", None)
        subprocess.run(command, pass_fds=(slave, write), env=environ, start_new_session=True, check=True, timeout=60)
        os.close(write)
        with os.fdopen(read) as out:
            return tuple(json.load(out))
    finally:
        os.close(master)
        os.close(slave)


def test_a_terminal_is_told() -> None:
    said, numbers, bad = looked(100, 30)
    assert said.startswith("100 by 30, 256 colours, copies by ")
    assert not bad
    assert numbers["variables"]["TERM_PROGRAM"] == "Apple_Terminal"
    assert numbers["variables"]["TMUX"] == "(set)"
    assert "secret" not in json.dumps(numbers)


def test_one_that_is_too_small_is_a_fault() -> None:
    _, _, bad = looked(30, 8)
    assert bad == ["size: 30 columns and 8 lines; 40 and 10 are needed"]


def test_without_one_it_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "size_of_terminal", lambda: None)
    with pytest.raises(NotRun, match="no terminal here"):
        notes_of(terminal.look)


@pytest.mark.parametrize(
    ("term", "colorterm", "count"),
    [("xterm-256color", None, 256), ("xterm", None, 8), ("dumb", None, 0), ("xterm", "truecolor", 2**24)],
)
def test_colours(monkeypatch: pytest.MonkeyPatch, term: str, colorterm: str | None, count: int) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("COLORTERM", raising=False)
    if colorterm:
        monkeypatch.setenv("COLORTERM", colorterm)
    assert terminal.colours() == count


def test_what_copies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "size_of_terminal", lambda: (80, 24))
    for name in ("SSH_CONNECTION", "SSH_TTY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(terminal.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "xsel" else None)
    said, heard, _ = notes_of(terminal.look)
    assert said.endswith("copies by xsel" if sys.platform == "linux" else "copies by OSC 52")
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")  # its clipboard would be the wrong machine's
    assert notes_of(terminal.look)[0].endswith("copies by OSC 52")
    assert check_of(heard, "size")["good"]
