"""Text into the clipboard: by the system's own program, which says whether it worked; else by asking the terminal.

A terminal is asked by a control sequence (OSC 52) that it does not answer, and several take no notice of it, macOS's
Terminal among them. Over SSH the programs would reach the clipboard of the wrong machine, so the terminal is asked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping

SECONDS = 2.0
# (program and arguments, the environment variable without which it has nobody to talk to)
MAC = (("pbcopy",),)
WAYLAND = ("WAYLAND_DISPLAY", (("wl-copy",),))
X11 = ("DISPLAY", (("xclip", "-selection", "clipboard"), ("xsel", "--clipboard", "--input")))


def commands(environ: Mapping[str, str], platform: str = sys.platform) -> list[tuple[str, ...]]:
    """What may be tried here, the best first."""
    if "SSH_CONNECTION" in environ or "SSH_TTY" in environ:
        return []
    if platform == "darwin":
        return list(MAC)
    return [command for name, known in (WAYLAND, X11) if environ.get(name) for command in known]


def copy(text: str, environ: Mapping[str, str]) -> bool:
    """Whether it is there for sure. Waits for a program, so call it off the screen's thread."""
    return any(shutil.which(command[0]) and _run(command, text) for command in commands(environ))


def _run(command: tuple[str, ...], text: str) -> bool:
    try:
        # they leave a child behind that keeps the text, so nothing of theirs may be a pipe
        done = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
