"""All processes of a group, from here: started, watched, and begun anew when one of them is lost.

The first machine's process has HTTP; its sockets are ours, so clients that come while all begin anew wait in them. On
other hosts a process is started by ssh, as mlx.launch does it, on this one as a plain child. What a process must know
it reads from its standard input, the secret included; when that closes, because we ended or the link broke, it ends.
Ends with the exit code of the first process where that never became ready. Knows no model, and imports no MLX.
"""

from __future__ import annotations

import os
import secrets
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .first import READY
from .hostfile import PORT, HostEntry, Hostfile
from .messages import Start, pack

CHILD = "MLXRUN_MACHINE"  # in the environment of a process that is told more on its standard input
AGAIN = 75  # exit code of a first process whose group is lost
LAST_WORDS = 5.0  # seconds that it has to tell its clients so
LONGEST = 30.0  # seconds between two starts
LOOK = 0.2  # seconds


@dataclass(frozen=True)
class ServeCommand:
    arguments: tuple[str, ...]  # of mlxrun
    listeners: tuple[socket.socket, ...]  # of HTTP
    say: Callable[[str], None]


class Supervisor:
    def __init__(self, file: Hostfile, command: ServeCommand) -> None:
        self._file, self._command = file, command
        self._stopping = 0  # signals
        self._first: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        failed, served = 0, False
        while True:
            code, ready = self._live()
            served = served or ready
            if self._stopping or code == 0 or not served:
                return code
            failed = 0 if ready else failed + 1
            wait = min(LONGEST, 2.0**failed) - 1
            again = f" in {wait:g} s" if wait else ""
            self._command.say(f"All machines begin anew{again}.")
            deadline = time.monotonic() + wait
            while not self._stopping and time.monotonic() < deadline:
                time.sleep(LOOK)
            if self._stopping:
                return 0

    def _stop(self, number: int, frame: object) -> None:
        self._stopping += 1
        if self._first is not None and self._first.poll() is None:
            self._first.send_signal(signal.SIGTERM)

    def _live(self) -> tuple[int, bool]:
        """One life of the group: the exit code of its first process, and whether it became ready."""
        beat, sign = os.pipe()
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank, start in enumerate(self._starts(sign)):
                processes.append(self._begin(self._file.hosts[rank], start))
                if rank == 0:
                    self._first = processes[0]
                    os.close(sign)
            return self._watch(processes, beat)
        finally:
            os.close(beat)
            for process in processes:
                end(process)
            self._first = None

    def _starts(self, beat: int) -> list[Start]:
        file, count = self._file, len(self._file.hosts)
        ports = free_ports(count + 1) if file.local and not file.port else range(file.port or PORT, 65536)
        addresses = [f"{host.ip}:{port}" for host, port in zip(file.hosts, ports, strict=False)]
        secret, listeners = secrets.token_hex(32), [one.fileno() for one in self._command.listeners]
        return [
            Start(
                rank=rank,
                secret=secret,
                control=f"{file.hosts[0].ip}:{ports[count]}",
                ring=tuple(addresses),
                names=tuple(host.name for host in file.hosts),
                memory=tuple(host.memory for host in file.hosts),
                silence=file.silence,
                step=file.step,
                listeners=tuple(listeners) if rank == 0 else (),
                beat=beat if rank == 0 else -1,
            )
            for rank in range(count)
        ]

    def _begin(self, host: HostEntry, start: Start) -> subprocess.Popen[bytes]:
        told = dict(one.split("=", 1) for one in self._file.envs) | {CHILD: "1"}
        python = host.python or sys.executable
        mine = [python, "-m", "mlxrun", *self._command.arguments]
        here = host.local or start.rank == 0
        process = subprocess.Popen(
            mine if here else ssh(host.name, mine, told),
            stdin=subprocess.PIPE,
            pass_fds=(*start.listeners, start.beat) if start.beat >= 0 else (),
            env=os.environ | told if here else None,
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
        assert process.stdin is not None
        with suppress(OSError):  # it ended already, which is seen in a moment
            process.stdin.write(pack(start) + b"\n")
            process.stdin.flush()
        return process

    def _watch(self, processes: Sequence[subprocess.Popen[bytes]], beat: int) -> tuple[int, bool]:
        first, names = processes[0], [host.name for host in self._file.hosts]
        ready, heard, ended = False, None, None
        while first.poll() is None:
            if select.select([beat], [], [], LOOK)[0]:
                signs = os.read(beat, 4096)
                ready, heard = ready or READY in signs, time.monotonic()
                if not signs:  # it is about to end
                    time.sleep(LOOK)
            if heard is not None and time.monotonic() - heard > self._file.silence:
                self._command.say(f"{names[0]} said nothing for {self._file.silence:g} s; its process is ended.")
                first.kill()
            gone = next((rank for rank, one in enumerate(processes) if rank and one.poll() is not None), None)
            if gone is not None and ended is None:
                ended = time.monotonic()
                if not ready and not self._stopping:
                    self._command.say(f"{names[gone]} (machine {gone}) ended with code {processes[gone].returncode}.")
            if ended is not None and time.monotonic() - ended > LAST_WORDS:
                first.kill()
        return first.returncode, ready


def end(process: subprocess.Popen[bytes]) -> None:
    """Its input is closed, by which it ends on another host, too."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    if process.poll() is None:
        process.kill()
    process.wait()


def ssh(host: str, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """What starts it there, in the same folder if there is one."""
    told = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    here = shlex.quote(os.getcwd())
    script = f"if [ -d {here} ]; then cd {here}; fi; {told} exec {shlex.join(command)}"
    return ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR", host, script]


def free_ports(count: int) -> list[int]:
    """On loopback, as things are."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
