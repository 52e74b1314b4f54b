"""mlxrun doctor: what is in use on this machine, and why. Loads no model and fetches nothing.

Exit code 0: all is well; 1: something is not, and the screen says what to do. A Mac's answers were never seen.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, supported
from .show import at_home, size
from .terminal import tell

if TYPE_CHECKING:
    from ..settings import Settings

HELP = "tell what mlxrun uses on this machine, and why"
NOT_WELL = 1  # exit code
VARIABLES = (
    *("HOME", "THREADS", "CONTEXT", "MEMORY", "KERNELS", "WIRE", "DRAFT", "QUEUE", "TUNE", "KEY"),
    *("PRECISION", "ISA", "NATIVE"),
)
SECRET = ("KEY", "TOKEN")  # ends of names whose values are nobody's business
PACKAGES = ("mlx-lm", "numpy", "tokenizers", "huggingface_hub", "textual", "starlette", "uvicorn")
GPU_SERVES = "not needed: the GPU does the work"
SLOW = "models run on MLX's own CPU code, many times slower"


@dataclass(frozen=True, slots=True)
class Finding:
    said: str
    data: Any  # the same for programs
    problem: str | None = None  # what is wrong and what to do


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the same for programs; bytes")


def main(flags: argparse.Namespace) -> int:
    found = examine()
    well = not any(finding.problem for finding in found.values())
    if flags.json:
        parts = {title.lower().replace(" ", "_"): finding.data for title, finding in found.items()}
        problems = {title: finding.problem for title, finding in found.items() if finding.problem}
        print(json.dumps({"mlxrun": __version__, "well": well, **parts, "problems": problems}, indent=2))
    else:
        tell(*screen(found, shutil.get_terminal_size((120, 24)).columns))
    return 0 if well else NOT_WELL


def examine() -> dict[str, Finding]:
    return {title: look() for title, look in LOOKS.items()}


def screen(found: Mapping[str, Finding], width: int) -> list[str]:
    titles = max(map(len, found))
    beside = " " * (titles + 4)
    lines = [f"mlxrun {__version__}", ""]
    for title, one in found.items():
        line = f"{'!' if one.problem else ' '} {title:{titles}}  {one.said}"
        lines += textwrap.wrap(line, max(width, 60), subsequent_indent=beside, break_on_hyphens=False)
    problems = [f"! {one.problem}" for one in found.values() if one.problem]
    return [*lines, "", *(problems or ["All is well."])]


def python() -> Finding:
    """Which one runs, and on what."""
    data = {
        "version": platform.python_version(),
        "executable": sys.executable,
        "system": platform.system(),
        "architecture": platform.machine(),
    }
    return Finding(
        f"{data['version']} on {data['system']} {data['architecture']}, {at_home(Path(sys.executable))}", data
    )


def mlx() -> Finding:
    version = version_of("mlx")
    if missing := supported.why_no_mlx():
        return Finding("has no library here", {"version": version, "error": missing}, missing)
    try:
        import mlx.core  # noqa: F401 whether it loads is what we want to know
    except ImportError as error:
        why = f"MLX cannot be imported ({error}); install mlxrun again."
        return Finding("cannot be imported", {"version": version, "error": str(error)}, why)
    return Finding(str(version), {"version": version, "error": None})


def device() -> Finding:
    from .. import command_buffers, gpu
    from ..memory.here import this_machine

    machine, why_not = this_machine(), gpu.why_not()
    cores = f", {machine.cores} cores" if machine.cores else ""
    kind = "GPU" if machine.gpu else "CPU"
    set_for_mlx = [f"{name}={value}" for name, value in command_buffers.in_use().items()]
    said = "; ".join([f"{kind}: {machine.name}{cores}", *([] if why_not is None else [why_not[:-1]]), *set_for_mlx])
    data = {
        "kind": kind,
        "name": machine.name,
        "cores": machine.cores,
        "why_no_gpu": why_not,
        "no_arrays": gpu.no_arrays(),
        "command_buffers": command_buffers.in_use(),
        "mlx_says": gpu.info(),
    }
    return Finding(said, data, gpu.no_arrays() or (why_not if gpu.lost() else None))


def native() -> Finding:
    """The CPU kernels: wanted wherever there is no GPU."""
    from ..ops.device import this_device
    from ..ops.native import status

    found, used = status(), this_device().native
    gpu = device().data["kind"] == "GPU"
    data = {"used": used, **asdict(found), "self_test": "passed" if found.available else None}
    if used:
        dots = "with integer dot products" if found.integer else "without integer dot products"
        threads = f"{found.threads} thread{'s' * (found.threads != 1)}"
        told = [f"{found.isa} {dots}", threads, f"precision {found.precision}", "self-test passed"]
        return Finding(f"in use: {', '.join(told)}", data)
    if gpu:
        return Finding(GPU_SERVES, data)
    reason = (found.reason or "MLX computes on a GPU here").rstrip(".")
    return Finding(f"not in use, so {SLOW}", data, f"The native CPU kernels are not in use: {reason}.")


def memory() -> Finding:
    from ..memory.here import this_machine
    from ..memory.mac_memory import mac_memory

    machine, mac = this_machine(), mac_memory()
    data: dict[str, Any] = {"total": machine.total, "usable": machine.usable}
    said = f"{size(machine.total)}, of which {size(machine.usable)} can be used for a model now"
    if mac is not None:
        data |= {"pressure": mac.told, "free": mac.available, "swap": mac.swap}
        said += f"; pressure {mac.told}, {size(mac.available)} free"
        said += "" if mac.swap is None else f", {size(mac.swap)} in swap files"
    return Finding(said, data)


def open_files() -> Finding:
    """How many this process may have, after it asked for more."""
    from ..descriptors import LOW, allowed

    most = allowed()
    if most is None:
        return Finding("without limit", {"most": None})
    problem = f"Only {most} files may be open at once; allow more (ulimit -n 10240) before mlxrun is started."
    return Finding(f"{most} at once", {"most": most}, problem if most < LOW else None)


def mapping() -> Finding:
    """Tried with a small file: on a Mac nobody has seen yet that it works."""
    from .. import gpu
    from ..weights.mapped import try_mapping

    try:
        with tempfile.TemporaryDirectory(prefix="mlxrun-") as folder:
            found = try_mapping(Path(folder))
    except OSError as error:
        reason = f"a small file could not be made ({error.strerror or error})"
        return Finding(f"unknown: {reason}", {"works": None, "by": None, "reason": reason})
    works = bool(found.views)
    by = ("MLX" if found.adopted else "the native library") if works else None
    data = {"works": works, "by": by, "reason": found.reason}
    if works:
        return Finding(f"works, by {by}", data)
    problem = f"Weights are read and not mapped, because {found.reason}." if gpu.metal() else None
    return Finding(f"does not work here: {found.reason}", data, problem)


def models() -> Finding:
    from ..settings import SettingsError, from_environment

    try:
        settings = from_environment()
    except SettingsError as error:
        return Finding("unknown while a setting is wrong", {"path": None, "error": str(error)}, str(error))
    place = settings.models
    there = nearest(place)
    free = shutil.disk_usage(there).free
    names = names_in(settings)
    data = {"path": str(place), "ready": str(settings.ready), "free": free, "models": names}
    said = f"{at_home(place)}: {len(names)} model{'s' * (len(names) != 1)} here, {size(free)} free on its disk"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(said, data, f"{there} cannot be written; change its owner or set MLXRUN_HOME to another folder.")
    return Finding(said, data)


def names_in(settings: Settings) -> list[str]:
    try:
        from ..store.resolve import list_installed

        return [name for name, where in list_installed(settings) if where is not None]
    except ImportError:  # of the hub's library; `packages` says so
        return []


def environment() -> Finding:
    set_here = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MLXRUN_")}
    told = {name: "(set)" if name.endswith(SECRET) else value for name, value in set_here.items()}
    said = ", ".join(f"{name}={value}" for name, value in told.items()) or "no MLXRUN_ variable is set"
    unknown = [name for name in set_here if name.removeprefix("MLXRUN_") not in VARIABLES]
    problem = f"{unknown[0]} is not a variable that mlxrun knows, so it sets nothing." if unknown else None
    return Finding(said, told, problem or wish_not_granted())


def wish_not_granted() -> str | None:
    """The native library takes no notice of values that it does not know."""
    if mlx().problem:
        return None
    from ..ops.native import native as library

    if library is None:
        return None
    for name, known in (("MLXRUN_PRECISION", ["exact", "fast"]), ("MLXRUN_ISA", library.isas())):
        wish = os.environ.get(name)
        if wish is not None and wish not in known:
            return f"{name}={wish} is ignored: on this machine it can be {' or '.join(known)}."
    return None


def packages() -> Finding:
    versions = {name: version_of(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    problem = f"{' and '.join(missing)} cannot be found; install mlxrun again." if missing else None
    return Finding(said, versions, problem)


def after_mlx(look: Callable[[], Finding]) -> Callable[[], Finding]:
    """What cannot be asked while MLX does not load; that is said once, by `mlx`."""

    def guarded() -> Finding:
        if mlx().problem:
            return Finding("unknown while MLX cannot be imported", None)
        return look()

    return guarded


LOOKS: dict[str, Callable[[], Finding]] = {
    "Python": python,
    "MLX": mlx,
    "device": after_mlx(device),
    "native CPU kernels": after_mlx(native),
    "memory": after_mlx(memory),
    "mapped files": after_mlx(mapping),
    "open files": open_files,
    "models": models,
    "environment": environment,
    "packages": packages,
}


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def nearest(path: Path) -> Path:
    """The path, or the first folder above it that exists."""
    return next(one for one in (path, *path.parents) if one.exists())
