"""The terminal UI in a real (pseudo) terminal: start to first picture and first echo; cost of a long answer.

Starting is measured on the installed command, the model being loaded behind it. The long answer comes from a
scripted client, so that nothing but the screen is measured: the share of a core of the thread that paints,
and of the whole process. It knows no model.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import resource
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS, COLUMNS = 24, 80
PAINTED, ECHO = b"enter sends", b"q"  # in the first picture; a letter that it does not hold at the cursor
PARAGRAPH = (
    "The **sea** is `wide` and it was there before us, wave after wave, in a light that no one saw.\n\n"
    "- salt and wind\n- a long horizon\n\n```python\ndef wave(n):\n    return n + 1\n```\n\n"
)


class Terminal:
    """A child process in a terminal of its own; everything that it draws is read."""

    def __init__(self, command: list[str], home: str, rows: int = ROWS, columns: int = COLUMNS) -> None:
        self.began = time.perf_counter()
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_DATA_HOME": home}
        self.process = subprocess.Popen(
            command, stdin=there, stdout=there, stderr=there, env=environ, start_new_session=True
        )
        os.close(there)
        self.file, self.drawn = here, b""

    def read(self, seconds: float = 0.05) -> bytes:
        if not select.select([self.file], [], [], seconds)[0]:
            return b""
        try:
            new = os.read(self.file, 1 << 16)
        except OSError:  # the other side is closed
            return b""
        self.drawn += new
        return new

    def until(self, text: bytes, limit: float = 120.0) -> float:
        """Seconds since the start when it was drawn."""
        while text not in self.drawn:
            self.read()
            if time.perf_counter() - self.began > limit or self.process.poll() is not None:
                raise SystemExit(f"{text!r} was never drawn: {self.drawn[-300:]!r}")
        return time.perf_counter() - self.began

    def write(self, text: bytes) -> None:
        os.write(self.file, text)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.file)


def start(home: str) -> tuple[float, float]:
    """Seconds until the first picture, and until a key typed then is seen."""
    terminal = Terminal([sys.executable, "-m", "mlxrun"], home)
    painted = terminal.until(PAINTED)
    terminal.drawn = b""
    terminal.write(ECHO)
    echoed = terminal.until(ECHO)
    terminal.end()
    return painted, echoed


class Scripted:
    """`tokens` pieces of four characters at a steady rate."""

    model = "scripted"
    context = None

    def __init__(self, tokens: int, rate: float) -> None:
        self.tokens, self.rate = tokens, rate

    def stream(self, messages: object, **options: object) -> Scripted:
        return self

    def cancel(self) -> None:
        self.tokens = 0

    def memory(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is open."""

    def __iter__(self) -> Iterator[Any]:
        from mlxrun.client import Finish, Piece, Said

        text = PARAGRAPH * (self.tokens * 4 // len(PARAGRAPH) + 1)
        began = time.perf_counter()
        for index in range(self.tokens):
            time.sleep(max(0.0, began + index / self.rate - time.perf_counter()))
            yield Piece((Said(text[index * 4 : index * 4 + 4]),))
        yield Piece(finish=Finish.STOP)


def child(tokens: int, rate: float, report: Path) -> None:
    """The app on a scripted client; writes what the answer cost, once it is there."""
    from mlxrun.tui.app import Chat
    from mlxrun.tui.backend import OpenedClient

    class Scripts:
        def open(self, name: str, server: str | None = None, *, join: bool, progress: object = None) -> OpenedClient:
            return OpenedClient(Scripted(tokens, rate))  # type: ignore[arg-type]  # it has what the UI uses

        def choices(self, client: object, server: str | None) -> list[Any]:
            return []

    class Measured(Chat):
        async def on_ready(self) -> None:
            self.began: tuple[float, float, float] | None = None
            self.set_interval(0.02, self.watch_answer)

        def watch_answer(self) -> None:
            now = (time.thread_time(), time.process_time(), time.perf_counter())
            if self.began is None and self.chat.reader is not None:
                self.began = now
            elif self.began is not None and self.chat.reader is None:
                thread, process, wall = (b - a for a, b in zip(self.began, now, strict=True))
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                told = {"thread": thread / wall, "process": process / wall, "wall": wall, "memory_kb": memory}
                report.write_text(json.dumps(told))
                self.exit()

    with tempfile.TemporaryDirectory() as folder:
        Measured(Scripts(), Path(folder) / "sessions.db").run()


def long_answer(tokens: int, rate: float, size: tuple[int, int]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        how = ["--child", str(report), "--tokens", str(tokens), "--rate", str(rate)]
        terminal = Terminal([sys.executable, __file__, *how], folder, *size)
        terminal.until(PAINTED)
        terminal.write(b"go\r")
        while terminal.process.poll() is None:
            terminal.read()
        told: dict[str, float] = json.loads(report.read_text())
        told["drawn_mb"] = len(terminal.drawn) / 1e6
        terminal.end()
        return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=200.0, help="tokens a second")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child is not None:
        child(flags.tokens, flags.rate, flags.child)
        return
    with tempfile.TemporaryDirectory() as home:
        starts = [start(home) for _ in range(flags.starts)]
    answers = {f"{c}x{r}": long_answer(flags.tokens, flags.rate, (r, c)) for r, c in ((24, 80), (40, 120))}
    found = {
        "first_picture_s": statistics.median(painted for painted, _ in starts),
        "first_echo_s": statistics.median(echoed for _, echoed in starts),
        "best_first_picture_s": min(painted for painted, _ in starts),
        "load_average": os.getloadavg()[0],
        "answers": answers,
    }
    if flags.json:
        print(json.dumps(found))
        return
    print(f"start: first picture {found['first_picture_s']:.2f} s, a typed key is seen {found['first_echo_s']:.2f} s")
    print(
        f"       (median of {flags.starts}, best {found['best_first_picture_s']:.2f} s; load {os.getloadavg()[0]:.1f})"
    )
    for size, told in answers.items():
        print(
            f"{flags.tokens} tokens at {flags.rate:.0f}/s, {size}: painting thread {told['thread']:.1%} of a core, "
            f"process {told['process']:.1%}, {told['wall']:.1f} s, {told['memory_kb'] / 1e3:.0f} MB resident"
        )


if __name__ == "__main__":
    main()
