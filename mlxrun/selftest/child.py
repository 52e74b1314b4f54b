"""One part, in a process of its own: python -m mlxrun.selftest.child MODULE:FUNCTION DESCRIPTOR SECONDS [quick]

Writes what it finds to the descriptor. What a library prints goes elsewhere; what is raised ends the process with a
traceback on stderr, and so does the deadline: there it tells where it hung, even in a call that never returns.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys

from .notes import Notes
from .results import NotRun


def main(function: str, descriptor: str, seconds: str, *quick: str) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    pipe = int(descriptor)
    os.set_inheritable(pipe, False)  # a process that a part starts must not keep it open

    def write(line: str) -> None:
        rest = line.encode()
        while rest:
            rest = rest[os.write(pipe, rest) :]

    module, name = function.split(":")
    notes = Notes(write, quick=bool(quick), seconds=float(seconds))
    try:
        said = getattr(importlib.import_module(module), name)(notes)
    except NotRun as why:
        notes.not_run(str(why))
    else:
        notes.end(said)
    sys.stdout.flush()
    os._exit(0)  # threads and libraries that would not end do not count against the part


if __name__ == "__main__":
    main(*sys.argv[1:])
