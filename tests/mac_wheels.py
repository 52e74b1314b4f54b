"""What this project assumes of MLX on a Mac, held against MLX's own macOS wheels: `make mac-wheels`.

Wheels of the pinned release are downloaded for every Python and macOS that we name, and read as zip files: nothing in
them runs here. Not seen: whether a text compiles, and what a GPU answers. Exit code 1: an assumption is wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from tests.macs import MACS, NO_DEVICE
from tests.metal_names import declared, macros, words

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(mx.__file__).parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = ("14", "15", "26")  # macOS
PREAMBLE = "mlx/backend/metal/kernels/utils.h"  # what MLX puts before every kernel of ours
USED = re.compile(r"\bmx\.((?:fast|metal|random|linalg|fft)\.)?(\w+)")
READ = re.compile(r'gpu\.count\("(\w+)"\)|gpu\.info\(\)\.get\("(\w+)"')
ENVIRONMENT = ("MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER")


@dataclass(frozen=True)
class Wheel:
    path: Path

    def names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as opened:
            return opened.namelist()

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as opened:
            return opened.read(name)


@dataclass(frozen=True)
class Found:
    said: str
    wrong: tuple[str, ...] = ()


def download(what: str, python: str, system: str, into: Path) -> Wheel | None:
    """None: there is no such wheel."""
    place = into / f"{what.partition('=')[0]}-{python}-{system}"
    command = f"-m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest {place} {what}"
    where = f"--implementation cp --python-version {python} --platform macosx_{system}_0_arm64"
    done = subprocess.run([sys.executable, *command.split(), *where.split()], stderr=subprocess.PIPE, text=True)
    found = sorted(place.glob("*.whl")) if place.exists() else []
    if done.returncode or not found:
        print(done.stderr.strip().splitlines()[-1:] or "", file=sys.stderr)
        return None
    return Wheel(found[0])


# ---- what is checked ----------------------------------------------------------------------------


def check_tags(wheels: Mapping[tuple[str, str], Wheel | None]) -> Found:
    """One for every Python and macOS, and the library in it is that Python's."""
    wrong = []
    for (python, system), wheel in wheels.items():
        if wheel is None:
            wrong.append(f"no wheel for Python {python} on macOS {system}")
            continue
        tag = f"cp{python.replace('.', '')}"
        if f"-{tag}-{tag}-macosx_{system}_0_arm64" not in wheel.path.name:
            wrong.append(f"Python {python} on macOS {system} gets {wheel.path.name}")
        if not any(name.startswith(f"mlx/core.cpython-{tag[2:]}-darwin") for name in wheel.names()):
            wrong.append(f"{wheel.path.name} has no library for Python {python}")
    return Found(f"wheels for Python {', '.join(PYTHONS)} on macOS {', '.join(SYSTEMS)}", tuple(wrong))


def names_used(sources: Iterable[Path]) -> set[str]:
    """Of mlx.core and its modules, as the product writes them."""
    found: set[str] = set()
    for file in sources:
        found |= {"".join(parts) for parts in USED.findall(file.read_text(encoding="utf-8"))}
    return found - {"fast", "metal", "random", "linalg", "fft", "distributed"}


def check_stubs(wheel: Wheel, used: Iterable[str], installed: Path = INSTALLED) -> Found:
    """What is declared of every name that we use is here and there the same."""
    wrong, same = [], 0
    texts: dict[str, tuple[str, str]] = {}
    for name in sorted(used):
        module = name.partition(".")[0] if "." in name else "__init__"
        file = f"core/{module}.pyi"
        if file not in texts:
            texts[file] = (wheel.read(f"mlx/{file}").decode(), (installed / file).read_text(encoding="utf-8"))
        there, here = (declarations(text, name.rpartition(".")[2]) for text in texts[file])
        same += bool(here) and there == here
        if there != here:
            wrong.append(f"mx.{name} is declared otherwise on a Mac")
    return Found(f"{same} names of mlx.core that are used are declared as they are here", tuple(wrong))


def declarations(text: str, name: str) -> list[str]:
    return re.findall(rf"^(?:def {name}\(.*?(?=^\S)|class {name}\b.*?(?=^\S)|{name}: .*?$)", text + "\nx", re.M | re.S)


def check_library(library: bytes, keys: Iterable[str]) -> Found:
    """What it is asked for by name stands in it."""
    wanted = [*keys, *ENVIRONMENT, NO_DEVICE]
    wrong = [f"{text[:60]!r} is not in libmlx.dylib" for text in wanted if b"\0" + text.encode() + b"\0" not in library]
    return Found(f"{len(wanted)} keys, variables and messages stand in libmlx.dylib", tuple(wrong))


def check_headers(wheel: Wheel, wanted: Iterable[str], installed: Path = INSTALLED) -> Found:
    """Those of MLX, which our C++ and the simulator's oracle read."""
    wrong, same = [], 0
    with zipfile.ZipFile(wheel.path) as opened:
        there = set(opened.namelist())
        for name in sorted(wanted):
            place = f"mlx/include/{name}"
            if place not in there:
                wrong.append(f"{name} is not there")
            elif opened.read(place) != (installed / "include" / name).read_bytes():
                wrong.append(f"{name} differs from the one here")
            else:
                same += 1
    return Found(f"{same} headers of MLX are those that are here", tuple(wrong))


def check_names(preamble: str, ours: Mapping[str, str]) -> Found:
    """No name of ours means something before our text begins. `ours`: texts of headers and bodies by file."""
    theirs, replaced = declared(preamble), macros(preamble)
    wrong = [] if theirs else ["MLX's own text was not found"]
    for file, text in sorted(ours.items()):
        wrong += [f"{file}: {name} is also MLX's" for name in sorted(declared(text) & theirs)]
        wrong += [f"{file}: {name} is a macro of MLX" for name in sorted(words(text) & replaced)]
        wrong += [] if text.isascii() else [f"{file} is not ASCII, which MLX demands"]
    mine = set().union(*map(declared, ours.values()))
    return Found(f"{len(mine)} names of ours beside {len(theirs)} and {len(replaced)} macros of MLX's", tuple(wrong))


def preamble_of(library: bytes) -> str:
    """The text that MLX compiles before every kernel; empty where it is not found."""
    at = library.find(f"Auto generated source for {PREAMBLE}".encode())
    start, end = library.rfind(b"\0", 0, at) + 1, library.find(b"\0", at)
    return library[start:end].decode() if at >= 0 else ""


# ---- all of it ----------------------------------------------------------------------------------


def sources() -> Iterator[Path]:
    for top in ("mlxrun", "cpu_kernels", "metal_kernels", "tui"):
        yield from sorted((ROOT / top).rglob("*.py"))


def headers() -> set[str]:
    return {file.relative_to(INSTALLED / "include").as_posix() for file in (INSTALLED / "include/mlx").rglob("*.h")}


def keys() -> set[str]:
    read = {key for file in sources() for found in READ.findall(file.read_text(encoding="utf-8")) for key in found}
    return {key for key in (*read, *MACS["M1 8 GB"].info) if key}


def metal_texts() -> dict[str, str]:
    folder = ROOT / "metal_kernels"
    files = [*folder.glob("*.h"), *folder.glob("*.metal")]
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def main() -> int:
    pin = version("mlx")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        grid = {(p, s): download(f"mlx=={pin}", p, s, place) for s in SYSTEMS for p in PYTHONS}
        metal = {s: download(f"mlx-metal=={pin}", PYTHONS[0], s, place) for s in SYSTEMS}
        print(f"MLX {pin}")
        bad = tell("", check_tags(grid))
        for system, wheel in metal.items():
            core = grid[PYTHONS[0], system]
            if wheel is None or core is None:
                bad += tell(f"macOS {system}: ", Found("", ("there is no wheel of mlx or mlx-metal",)))
                continue
            library = wheel.read("mlx/lib/libmlx.dylib")
            bad += tell(f"macOS {system}: ", check_stubs(core, names_used(sources())))
            bad += tell(f"macOS {system}: ", check_library(library, keys()))
            bad += tell(f"macOS {system}: ", check_headers(wheel, headers()))
            bad += tell(f"macOS {system}: ", check_names(preamble_of(library), metal_texts()))
    return 1 if bad else 0


def tell(where: str, found: Found) -> int:
    print(f"{'!' if found.wrong else ' '} {where}{found.said}")
    for line in found.wrong:
        print(f"    {line}")
    return len(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
