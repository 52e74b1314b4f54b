"""mlxrun serve as a service of the person who asks: a launchd agent on a Mac, a systemd user unit on Linux.

Writes one file and says how to start, stop and remove what it describes; starts and stops nothing itself. A file that
it did not write it neither replaces nor removes. systemd's checker has read the unit; launchd never read the agent.
"""

from __future__ import annotations

import argparse
import math
import os
import plistlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import RequestError

LABEL = "org.mlxrun.serve"
MARK = "Written by mlxrun serve, which may replace and remove it."  # XML allows no -- in a comment
OURS = 4096  # bytes within which the mark must stand
KEY = "MLXRUN_KEY"
GRACE = 10.0  # seconds, as the server's own
LAST_WORDS = 10  # seconds beyond the grace
FOLDERS = ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")  # where models are, beside what MLXRUN_ names say


@dataclass(frozen=True, slots=True)
class Service:
    path: Path
    text: str
    secret: bool  # a key stands in it, so only its owner may read it
    told: tuple[str, ...]  # how it is started, stopped and looked at


@dataclass(frozen=True, slots=True)
class Program:
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = GRACE  # seconds that answers have after it was told to end


def install(flags: argparse.Namespace, usual: argparse.Namespace, key: str | None) -> list[str]:
    """What was written, in sentences. `usual`: the flags where nobody says anything."""
    known = sorted(os.environ.items())
    environment = {name: value for name, value in known if name.startswith("MLXRUN_") or name in FOLDERS}
    if key is not None:
        environment[KEY] = key
    command = (sys.executable, "-m", "mlxrun", "serve", *words_of(flags, usual))
    program = Program(command, environment, GRACE if flags.grace is None else flags.grace)
    service = service_of(program, sys.platform, Path.home(), os.environ)
    refuse_what_is_not_ours(service.path, "replaced")
    write(service)
    carried = [f"It carries {', '.join(environment)} of this environment."] if environment else []
    readers = ["Only you can read it, because the key stands in it."] if service.secret else []
    return [f"{service.path} is written; nothing is started yet.", *carried, *readers, *service.told]


def uninstall() -> list[str]:
    service = service_of(Program(()), sys.platform, Path.home(), os.environ)
    if not os.path.lexists(service.path):
        raise RequestError(f"There is no service to remove: {service.path} does not exist.")
    refuse_what_is_not_ours(service.path, "removed")
    service.path.unlink()
    return [f"{service.path} is removed. What it had started runs until it is stopped: {stop_of(sys.platform)}"]


def words_of(flags: argparse.Namespace, usual: argparse.Namespace) -> list[str]:
    """The arguments again, for a program that starts in another folder. A key has no place among them: others can see
    a program's arguments."""
    words = [
        str(Path(model).expanduser().absolute()) if os.path.exists(os.path.expanduser(model)) else model
        for model in flags.model
    ]
    for name, value in vars(usual).items():
        given = getattr(flags, name)
        if name in ("model", "key", "client", "install_service", "uninstall_service") or given == value:
            continue
        flag = f"--{name.replace('_', '-')}"
        given = given.expanduser().absolute() if isinstance(given, Path) else given
        values: Sequence[Any] = given if isinstance(given, list) else [given]
        words += [flag] if given is True else [f"{flag}={one}" for one in values]
    return words


def service_of(program: Program, platform: str, home: Path, environ: Mapping[str, str]) -> Service:
    for text in (*program.command, *program.environment.values()):
        if not text.isprintable():
            raise RequestError(f"A service file can hold no control characters, and there are some in {text!r}.")
    secret = KEY in program.environment
    if platform == "darwin":
        path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        logs = home / "Library" / "Logs" / "mlxrun.log"
        return Service(path, agent(program, logs), secret, told_on_a_mac(path, logs))
    if platform == "linux":
        config = environ.get("XDG_CONFIG_HOME", "")
        folder = Path(config) if os.path.isabs(config) else home / ".config"
        return Service(folder / "systemd" / "user" / "mlxrun.service", unit(program), secret, TOLD_ON_LINUX)
    raise RequestError("A service can be installed on macOS and Linux only.")


def agent(program: Program, logs: Path) -> str:
    described = {
        "Label": LABEL,
        "ProgramArguments": list(program.command),
        "EnvironmentVariables": dict(program.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},  # started again after a crash, not after an orderly end
        "ExitTimeOut": longest_end(program),  # then it is killed
        "ProcessType": "Interactive",  # others are slowed down, as work that nobody waits for
        "StandardErrorPath": str(logs),
    }
    head, found, rest = plistlib.dumps(described, sort_keys=False).decode().partition("<plist")
    return f"{head}<!-- {MARK} -->\n{found}{rest}"


def unit(program: Program) -> str:
    environment = [f"Environment={quoted(f'{name}={value}')}" for name, value in program.environment.items()]
    command = " ".join(quoted(word).replace("$", "$$") for word in program.command)
    return "\n".join(
        [
            f"# {MARK}",
            "[Unit]",
            "Description=mlxrun answers over HTTP",
            "",
            "[Service]",
            f"ExecStart={command}",
            *environment,
            "Restart=on-failure",
            "RestartSec=5",
            f"TimeoutStopSec={longest_end(program)}",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
    )


def longest_end(program: Program) -> int:
    """Seconds; the system's own limit may be shorter than the grace."""
    return math.ceil(program.grace) + LAST_WORDS


def quoted(word: str) -> str:
    """For systemd, which would else see escapes and specifiers in it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def told_on_a_mac(path: Path, logs: Path) -> tuple[str, ...]:
    return (
        f"Start it, now and at every login: launchctl bootstrap gui/{os.getuid()} '{path}'",
        f"Stop it until the next login: {stop_of('darwin')}",
        "Remove it: stop it, then mlxrun serve --uninstall-service",
        f"What it says is in {logs}.",
    )


TOLD_ON_LINUX = (
    "Start it, now and at every login: systemctl --user daemon-reload && systemctl --user enable --now mlxrun",
    "Stop it: systemctl --user disable --now mlxrun",
    "Remove it: stop it, then mlxrun serve --uninstall-service",
    "What it says: journalctl --user -u mlxrun. To run it while you are logged out: loginctl enable-linger",
)


def stop_of(platform: str) -> str:
    return f"launchctl bootout gui/{os.getuid()}/{LABEL}" if platform == "darwin" else TOLD_ON_LINUX[1].split(": ")[1]


def refuse_what_is_not_ours(path: Path, done: str) -> None:
    if not os.path.lexists(path):
        return
    try:
        with path.open("rb") as opened:
            ours = MARK.encode() in opened.read(OURS)
    except OSError:
        ours = False
    if not ours:
        raise RequestError(f"{path} was not written by mlxrun, so it is not {done}; move it away first.")


def write(service: Service) -> None:
    """Whole or not at all, and never for a moment readable by others where a key stands in it."""
    service.path.parent.mkdir(parents=True, exist_ok=True)
    aside = service.path.with_suffix(f".{os.getpid()}")
    mode = 0o600 if service.secret else 0o644
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as opened:
            os.fchmod(opened.fileno(), mode)
            opened.write(service.text)
        aside.replace(service.path)
    finally:
        aside.unlink(missing_ok=True)
