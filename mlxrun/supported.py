"""Whether mlxrun can run on this machine at all: the first thing that is looked at, by `mlxrun` and by the Makefile.

What is too old or of the wrong kind would otherwise be told by a traceback, or by pip as "no matching version". So
this file imports nothing of ours, runs by itself (`python3 mlxrun/supported.py`) and is written for Python 3.7.
The answers for a Mac are tested with made-up values; none was ever seen on one.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
OLDEST_MACOS = 14  # of MLX's wheels
LIBRARIES = ("libmlx.so", "libmlx.dylib")


def why_not() -> str | None:
    """One sentence, or None where mlxrun can run."""
    system, machine = platform.system(), platform.machine()
    translated = system == "Darwin" and machine == "x86_64" and is_translated()
    return why_not_on(system, machine, platform.mac_ver()[0], sys.version_info[:3], translated)


def why_not_on(system: str, machine: str, macos: str, python: tuple[int, ...], translated: bool = False) -> str | None:
    if python < OLDEST_PYTHON:
        needed, found = (".".join(map(str, version)) for version in (OLDEST_PYTHON, python))
        brew = ": brew install python@3.12" if system == "Darwin" else ""
        return f"mlxrun needs Python {needed} or newer, and {sys.executable} is {found}; install a newer one{brew}."
    if system == "Darwin" and machine == "x86_64":
        if not translated:
            return "This Mac has an Intel processor, and MLX runs only on Macs with Apple Silicon."
        return (
            f"{sys.executable} was built for Intel and runs under Rosetta, where MLX does not; "
            "take a Python for Apple Silicon: brew install python@3.12, in a terminal that is not under Rosetta either."
        )
    # programs built for macOS 10 are told 10.16, whatever there is
    if system == "Darwin" and macos and macos != "10.16" and int(macos.split(".")[0]) < OLDEST_MACOS:
        return f"MLX needs macOS {OLDEST_MACOS} or newer, and this Mac has {macos}."
    if system not in ("Darwin", "Linux"):
        return f"mlxrun runs on macOS and Linux, not on {system or 'an unknown system'}; on Windows it runs in WSL."
    return None


def is_translated() -> bool:
    """This program was built for Intel, and Rosetta runs it."""
    try:
        asked = subprocess.run(["sysctl", "-n", "sysctl.proc_translated"], stdout=subprocess.PIPE, check=False)
    except OSError:
        return False
    return asked.stdout.strip() == b"1"


def why_no_mlx() -> str | None:
    """On Linux MLX's library comes with an extra; without any, `import mlx.core` fails. Imports nothing."""
    found = importlib.util.find_spec("mlx")
    places = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    if any((place / "lib" / name).exists() for place in places for name in LIBRARIES):
        return None
    if sys.platform == "darwin":
        return "MLX cannot be found; install mlxrun again."
    return (
        "MLX is here without its library, which an extra brings: "
        "install 'mlxrun[cpu]' instead of mlxrun, or 'mlxrun[cuda12]' or 'mlxrun[cuda13]' for an NVIDIA GPU."
    )


if __name__ == "__main__":
    sys.exit(why_not())
