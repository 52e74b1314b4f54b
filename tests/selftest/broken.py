"""Parts of a self-test that go wrong, each in its own way, and one that does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from mlxrun.selftest.notes import Notes
from mlxrun.selftest.results import NotRun, Part

HERE = "tests.selftest.broken"


def part(name: str, seconds: float = 20.0, **how: object) -> Part:
    return Part(name, name.capitalize(), f"{HERE}:{name}", seconds, seconds, **how)  # type: ignore[arg-type]  # as Part has them


def fine(notes: Notes) -> str:
    print("a library says something")
    os.write(2, b"and so does C\n")
    notes.number("seven", 7)
    notes.number("endless", float("inf"))
    notes.check("right", True, "it is")
    return "as it should be"


def fails(notes: Notes) -> str:
    notes.check("right", True, "it is")
    notes.check("wrong", False, "2 is not 3")
    notes.check("also wrong", False, "nor 4")
    return "never said"


def not_here(notes: Notes) -> str:
    raise NotRun("There is no such thing here.")


def hangs(notes: Notes) -> str:
    notes.begin("a lock that nobody lets go")
    threading.Lock().acquire()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
    return "never said"


def hangs_deaf(notes: Notes) -> str:
    """A process that cannot even tell where it hangs."""
    notes.begin("sleep")
    os.kill(os.getpid(), signal.SIGSTOP)
    return "never said"


def is_killed(notes: Notes) -> str:
    notes.number("first", 1)
    notes.check("right", True, "it is")
    notes.begin("the fatal one")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never said"


def raises(notes: Notes) -> str:
    notes.begin("adding")
    raise ValueError(f"no good in {os.path.expanduser('~')}/models")


def leaves(notes: Notes) -> str:
    os._exit(0)


def babbles(notes: Notes) -> str:
    notes._write("this is no JSON\n")
    return "said"


def babbles_json(notes: Notes) -> str:
    notes._write('{"end": ["splendid", 3]}\n')
    return "said"


def never_stops_writing(notes: Notes) -> str:
    while True:
        notes.number("again", "x" * 1000)


def has_a_child(notes: Notes) -> str:
    """Which outlives it, and holds all that it was given."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    notes.number("child", child.pid)
    return "left a child"


def leaves_a_file(notes: Notes) -> str:
    import tempfile

    notes.number("file", tempfile.mkstemp(prefix="left-")[1])
    time.sleep(60)
    return "never said"


def tells_its_environment(notes: Notes) -> str:
    names = ("MLXRUN_WIRE", "MLXRUN_CONTEXT", "HF_HUB_OFFLINE", "MINE")
    notes.number("environment", {name: os.environ.get(name) for name in names})
    return "told"
