"""Part: the terminal: its size, its colours, and what copies out of the terminal UI. Draws nothing."""

from __future__ import annotations

import locale
import os
import shutil

from ..tui.clipboard import commands
from .notes import Notes
from .results import NotRun

# what tells of a terminal; values of these and of no others are written down
VARIABLES = ("TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLORTERM", "NO_COLOR", "LANG", "LC_ALL", "TMUX", "STY")
ONLY_SET = ("TMUX", "STY")  # their values hold paths


def look(notes: Notes) -> str:
    found = {name: os.environ[name][:40] for name in VARIABLES if name in os.environ}
    notes.number("variables", {name: "(set)" if name in ONLY_SET else value for name, value in found.items()})
    notes.number("encoding", locale.getpreferredencoding(False))
    notes.number("remote", any(name in os.environ for name in ("SSH_TTY", "SSH_CONNECTION")))
    copier = next((name for name, *_ in commands(os.environ) if shutil.which(name)), None)
    notes.number("copies_by", copier or "OSC 52, if the terminal knows it")
    notes.number("colours", colours())
    size = size_of_terminal()
    if size is None:
        raise NotRun("There is no terminal here, so nothing is known of its size.")
    notes.number("size", list(size))
    notes.check("size", size[0] >= 40 and size[1] >= 10, f"{size[0]} columns and {size[1]} lines; 40 and 10 are needed")
    return f"{size[0]} by {size[1]}, {colours()} colours, copies by {copier or 'OSC 52'}"


def size_of_terminal() -> tuple[int, int] | None:
    """Of the one that this was started from, wherever its output goes."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return None
    try:
        size = os.get_terminal_size(terminal)
        return size.columns, size.lines
    except OSError:
        return None
    finally:
        os.close(terminal)


def colours() -> int:
    """As its variables promise."""
    term = os.environ.get("TERM", "dumb")
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return 2**24
    return 0 if term == "dumb" else 256 if "256" in term else 8
