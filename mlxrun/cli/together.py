"""mlxrun serve MODEL --machines FILE: one model on several machines.

Without more in its environment the command supervises; in a process that it started it is one of the machines.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .. import __version__
from ..core import RequestError
from ..machines.hostfile import read_hostfile
from ..machines.messages import MOST, Malformed, Start, unpack
from ..machines.supervise import AGAIN, CHILD, ServeCommand, Supervisor
from ..spec import ModelError
from . import options, quantize
from .terminal import aside, say

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..loading import LoadOptions, OpenedModel
    from ..loading.model import Runnable
    from ..machines.first import MachineGroup
    from ..settings import Settings

LAST_WORDS = 1.5  # seconds in which clients are told before all begin anew
UNLOADED = 5.0  # seconds that a load has to say by itself why it failed
ONE = "--machines serves one model: "


def check(flags: argparse.Namespace) -> None:
    if len(flags.model) > 1:
        raise RequestError(f"{ONE}name one, not {len(flags.model)}.")
    asked = {"--models-dir": flags.models_dir, "--installed": flags.installed, "--allow-pull": flags.allow_pull}
    asked |= {"--keep-alive": flags.keep_alive, "--adapter": flags.adapter}
    if (flag := next((flag for flag, there in asked.items() if there), None)) is not None:
        raise RequestError(f"{ONE}leave out {flag}.")


def supervise(flags: argparse.Namespace, arguments: Sequence[str], listeners: Sequence[socket.socket]) -> int:
    """`arguments`: of this process, which all others get, too."""
    file = read_hostfile(flags.machines)
    return Supervisor(file, ServeCommand(tuple(arguments), tuple(listeners), say)).run()


def told() -> Start | None:
    """Which machine this process is; None: none, it supervises."""
    if CHILD not in os.environ:
        return None
    try:
        start = unpack(sys.stdin.buffer.readline(MOST).strip())
    except Malformed as error:
        raise RequestError(f"{CHILD} is set, and standard input does not say which machine this is: {error}.") from None
    if not isinstance(start, Start) or not 0 <= start.rank < len(start.names):
        raise RequestError(f"{CHILD} is set, and standard input does not say which machine this is.")
    threading.Thread(target=end_with_input, name="mlxrun-input", daemon=True).start()
    return start


def end_with_input() -> None:
    """Whoever started us is gone, or the link to him is."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


def follow(flags: argparse.Namespace, start: Start, settings: Settings, default: str) -> int:
    """One of the others, until the first machine ends."""
    from ..descriptors import raise_limit
    from ..loading.options import ignore_progress
    from ..machines.follow import follow as follow_first
    from ..ops.device import this_device
    from ..store.resolve import resolve

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise_limit()
    opened = options.open_flagged(resolve((flags.model or [default])[0], settings), flags, this_device())
    opened = quantize.copy_of(opened, flags, settings)
    how = replace(options.load_options(flags, settings), progress=ignore_progress, prefixes=None)
    try:
        follow_first(start, opened, how, __version__)
    except ModelError as error:
        raise ModelError(f"{start.names[start.rank]} (machine {start.rank}): {error}") from None
    return 0


class Together:
    """Of the first machine: its group, from the moment that all have come."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.group: MachineGroup | None = None
        self._engine: Engine | None = None

    @property
    def listeners(self) -> list[socket.socket]:
        return [socket.socket(fileno=number) for number in self.start.listeners]

    def gathered(
        self, opened: OpenedModel, how: LoadOptions
    ) -> tuple[LoadOptions, Callable[[OpenedModel, LoadOptions], Runnable]]:
        """How the model is to be loaded, and by whom, now that all others are there."""
        from ..machines.first import gather
        from ..machines.lead import check, load_first
        from ..machines.share import hello

        if self.group is not None:
            raise ModelError("A model that several machines run is loaded once; start the server anew.")
        how = replace(how, drafts=False, prefixes=None)
        check(opened, how)
        own = hello(self.start, opened, __version__)
        group = self.group = gather(self.start, own, aside=aside)
        group.watch(self._lost)
        return how, partial(load_first, group, own)

    def serves(self, engine: Engine) -> None:
        self._engine = engine

    def ready(self) -> None:
        if self.group is not None:
            self.group.ready()

    def close(self) -> None:
        if self.group is not None:
            self.group.close()

    def _lost(self, reason: str) -> None:
        """On a thread of the group's: the engine's may never come back."""
        from ..machines.first import ANEW

        say(f"mlxrun: {reason}")
        if self._engine is not None:
            self._engine.lose(f"{reason} {ANEW}")
        time.sleep(UNLOADED if self._engine is None else LAST_WORDS)
        os._exit(AGAIN)
