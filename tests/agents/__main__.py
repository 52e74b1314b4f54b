"""make agents: Codex, Claude Code, opencode, pi and Continue mend a small repository through this server.

    python -m tests.agents [--agents codex,claude,opencode] [--right-only] [--model FILE] [--seconds 3600]

First with a model that does everything right, which shows whether the two understand each other; then with a 1.5B
coder, which shows how far a small model gets. Told for each: tool calls that were made and answered, errors between
the two, whether the test is green. It ends with 1 where the first of these is not as it must be, or where an error
came between any two. Programs and coder are fetched once, into mlxrun's cache; then all of it runs in a network that
has nothing but this machine, where the system can make one.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxrun.settings import from_environment

from .models import CONTEXT, LONG, fetched, right, serving
from .programs import AGENTS, REPOSITORY, Agent, Served
from .record import Recorder, listening

INSIDE = "MLXRUN_AGENTS_INSIDE"
ENOUGH = 3  # calls
RIGHT_SECONDS = 180
UP, FLAGS, SET_FLAGS = 1, 0x8913, 0x8914  # <net/if.h>, <linux/sockios.h>


@dataclass
class Outcome:
    agent: str
    model: str
    calls: int
    errors: list[str]
    green: bool
    said: str

    @property
    def line(self) -> str:
        green = "green" if self.green else "not green"
        return f"{self.agent:9} {self.model:36} {self.calls} calls, {len(self.errors)} errors, the test is {green}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description=__doc__.split("\n")[0])
    parser.add_argument("--agents", default=",".join(agent.name for agent in AGENTS))
    parser.add_argument("--right-only", action="store_true", help="without the coder")
    parser.add_argument("--model", type=Path, help="another model than the coder")
    parser.add_argument("--seconds", type=int, default=3600, help="that an agent may take with it")
    flags = parser.parse_args()
    chosen = [agent for agent in AGENTS if agent.name in flags.agents.split(",")]
    place = from_environment().home / "agents"
    model = None if flags.right_only else flags.model or fetched(place)
    programs = installed(place, chosen)
    if os.environ.get(INSIDE) is None:
        go_inside()
    raise_loopback()
    outcomes = [tried(agent, programs, right, "does everything right", RIGHT_SECONDS) for agent in chosen]
    good = all(outcome.green and outcome.calls >= ENOUGH and not outcome.errors for outcome in outcomes)
    if model is not None:
        with serving(model) as (app, name):
            later = [tried(agent, programs, lambda _: app, name, flags.seconds) for agent in chosen]
        good = good and not any(outcome.errors for outcome in later)
        outcomes += later
    print("\n" + "\n".join(outcome.line for outcome in outcomes))
    return 0 if good else 1


def installed(place: Path, agents: Sequence[Agent]) -> Path:
    """Where their programs are."""
    programs = place / "npm" / "node_modules" / ".bin"
    missing = [agent.package for agent in agents if not (programs / agent.program).exists()]
    if missing:
        if shutil.which("npm") is None:
            raise SystemExit("The agents are fetched by npm, which is not here; install Node.js first.")
        command = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(place / "npm"), *missing]
        subprocess.run(command, check=True)
    return programs


def go_inside() -> None:
    """Go on in a network of our own, which reaches nothing: what an agent sends stays here."""
    own = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode != 0:
        print("This system gives no network of its own to a program, so the agents can reach the real one.")
        return
    os.environ[INSIDE] = "own network"
    os.execvp(own[0], [*own, sys.executable, "-m", "tests.agents", *sys.argv[1:]])


def raise_loopback() -> None:
    if os.environ.get(INSIDE) is None:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        told = fcntl.ioctl(asking, FLAGS, struct.pack("16sh22x", b"lo", 0))
        (flags,) = struct.unpack_from("h", told, 16)
        fcntl.ioctl(asking, SET_FLAGS, struct.pack("16sh22x", b"lo", flags | UP))


def tried(agent: Agent, programs: Path, app_for: Any, model: str, seconds: int) -> Outcome:
    name, context = ("scripted", LONG) if app_for is right else (model, CONTEXT)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home, repository = scratch / "home", scratch / "repository"
        write(repository, REPOSITORY)
        recorder = Recorder(app_for(agent.steps(repository)))
        url = stack.enter_context(listening(recorder))
        served = Served(url, name, context)
        write(home, agent.files(served))
        environment = {**clean_environment(), "HOME": str(home), **agent.environment(served)}
        said = run([str(programs / agent.program), *agent.words(served)], repository, environment, seconds)
        calls = max((passed.results for passed in recorder.passed), default=0)
        errors = [error for passed in recorder.passed if (error := passed.error)]
        test = subprocess.run([sys.executable, "test_calc.py"], cwd=repository, capture_output=True)
    outcome = Outcome(agent.name, model, calls, errors, test.returncode == 0, said)
    print(outcome.line, *(f"    {error}" for error in errors), sep="\n", flush=True)
    if calls < ENOUGH or not outcome.green:
        print(*(f"    | {line}" for line in said.splitlines()[-20:]), sep="\n", flush=True)
    return outcome


def run(command: list[str], folder: Path, environment: dict[str, str], seconds: int) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as late:
        return (late.output or b"").decode(errors="replace") + f"\nIt was ended after {seconds} seconds."
    return done.stdout.decode(errors="replace")


def clean_environment() -> dict[str, str]:
    """Nothing of the person's own settings, and no address of anybody else."""
    kept = ("PATH", "LANG", "TERM", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
