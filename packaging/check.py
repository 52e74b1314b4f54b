"""The wheel as people meet it: `make wheel-check`. Fresh environments, outside of the checkout, no compiler in sight.

Of the newest wheel in dist/ that is for this Python and has the native kernels, and of one that is built here without
a compiler: what they are called, what a plain install says, and that SmolLM2 answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
STARTER, QUESTION, ANSWER = "smollm2", "What is the capital of France?", "Paris"


class Environment:
    """A fresh one; its own folder is the whole PATH, so nothing of the system's is found."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.run(sys.executable, "-m", "venv", folder / "env")

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLXRUN_", "CXX"))}
        environment = kept | {"PATH": str(self.folder / "env" / "bin")}
        words = [str(part) for part in command]
        return subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def mlxrun(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.folder / "env" / "bin" / "mlxrun", *arguments)

    def install(self, wish: str) -> None:
        pip = self.run(self.folder / "env" / "bin" / "python", "-m", "pip", "install", "--quiet", wish)
        require(pip.returncode == 0, f"installs: {Path(wish).name}", pip.stderr)


def require(met: bool, what: str, told: str = "") -> None:
    print(f"{'ok' if met else 'NOT'}  {what}", flush=True)
    if not met:
        sys.exit(told.strip() or "wheel-check failed")


def answers(environment: Environment) -> str:
    """What was said beside the answer."""
    done = environment.mlxrun("run", STARTER, QUESTION, "--temperature", "0")
    require(done.returncode == 0 and ANSWER in done.stdout, f"mlxrun run {STARTER} answers", done.stdout + done.stderr)
    return done.stderr


def check_extra(folder: Path, wheel: Path) -> Environment:
    environment = Environment(folder)
    if sys.platform == "linux":
        environment.install(str(wheel))
        done = environment.mlxrun("run", STARTER, QUESTION)
        one = done.returncode == 2 and "mlxrun[cpu]" in done.stderr and done.stderr.count("\n") == 1
        require(one, "without an extra, one sentence names it and the exit code is 2", done.stderr)
    environment.install(f"{wheel}[cpu]")
    return environment


def check_native(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = check_extra(Path(folder), wheel)
        told = environment.mlxrun("doctor", "--json").stdout
        require(json.loads(told)["native_cpu_kernels"]["used"], "the native kernels are in use", told)
        answers(environment)


def check_pure() -> None:
    """Built where no compiler can be found; nothing of the last build may come into it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        built = Environment(place)
        built.install("build")
        done = built.run(place / "env" / "bin" / "python", "-m", "build", "--wheel", "-o", place, ROOT)
        wheels = [path.name for path in place.glob("*.whl")]
        require(len(wheels) == 1 and wheels[0].endswith("-py3-none-any.whl"), f"it is called {wheels}", done.stderr)
        require("many times slower" in done.stdout + done.stderr, "its build says that it is slow", done.stdout)
        environment = check_extra(place / "other", place / wheels[0])
        require("many times slower" in answers(environment), "so does every run")


def check_sources() -> None:
    archives = sorted(DIST.glob("mlxrun-*.tar.gz"))
    require(bool(archives), "there is a source distribution in dist/")
    with tarfile.open(archives[-1]) as opened:
        there = {name.partition("/")[2] for name in opened.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    rooms = ("mlxrun/", "cpu_kernels/", "metal_kernels/", "tui/")
    wanted = {name for name in listed if name.startswith(rooms)}
    require(wanted <= there, f"it has all of {len(wanted)} sources", f"missing: {sorted(wanted - there)}")


def main() -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    only_pure = sys.argv[1:] == ["--pure"]
    wheels = sorted(DIST.glob(f"mlxrun-*-{tag}-*.whl"), key=lambda path: path.stat().st_mtime)
    require(bool(wheels), f"there is a wheel for {tag} in dist/ (make dist)")
    check_sources()
    if not only_pure:
        check_native(wheels[-1])
    check_pure()


if __name__ == "__main__":
    main()
