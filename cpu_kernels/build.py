"""Compiles the native part: `python -m cpu_kernels.build`, and setup.py on Linux.

Calls the C++ compiler directly: one file an instruction set, each with its own flags, so that the
library runs on any CPU of the architecture and picks its kernels at run time. What happened is
written to `build.json` beside the sources; mlxrun reads it to tell why the library is missing.
CXX names another compiler, or puts ccache before one: CXX="ccache g++". How a Mac compiles and links was never tried
on one; `make kernels-macos` compiles every source for it elsewhere.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORD = "build.json"

# GCC 12 warns about the undefined values of its own avx512fintrin.h (its bug 105593)
OWN_HEADER = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
X86 = ["-mavx2", "-mfma", "-mf16c", "-mbmi2"]
AVX512 = [*X86, *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni")), *OWN_HEADER]
ISAS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "isa_base": [],
        "isa_avx2": X86,
        "isa_avxvnni": [*X86, "-mavxvnni"],
        "isa_avx512": AVX512,
        "isa_amx": AVX512,
    },
    "aarch64": {"isa_base": [], "isa_neon": ["-march=armv8.2-a+dotprod"]},
    "arm64": {
        "isa_base": [],
        "isa_neon": [],
    },  # macOS's name for it; compilers aim at an M1 there, which has all we use
}
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
    "thread": ["-fsanitize=thread"],
}


# beside the library: where MLX's is, in a wheel's place, and for a library that stays in the checkout
MAC_LINK = [
    "-undefined",
    "dynamic_lookup",  # Python's own names are those of the program that loads the library
    "-Wl,-dead_strip",
    "-Wl,-rpath,@loader_path/../../mlx/lib",
    f"-Wl,-rpath,{sysconfig.get_path('platlib')}/mlx/lib",
]
COMMON = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra"]
WARNINGS = ".warnings"  # beside an object: what the compiler said of its source


class BuildError(RuntimeError):
    """Why there is no library, in one sentence."""


def compiler() -> list[str]:
    wish = shlex.split(os.environ.get("CXX", ""))
    for command in [wish] if wish else [["g++"], ["c++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        "no C++ compiler was found; install one (Debian, Ubuntu: apt install g++; a Mac: xcode-select --install) "
        "and install mlxrun again"
    )


def library_name() -> str:
    return "_native" + sysconfig.get_config_var("EXT_SUFFIX")


def folder_of(package: str) -> Path:
    """Where a package is, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BuildError(f"the Python package {package} is missing (pip install -e '.[cpu,dev]' brings it)")
    return Path(next(iter(spec.submodule_search_locations)))


def includes(python: Path | None = None) -> list[str]:
    mlx, nano = folder_of("mlx"), folder_of("nanobind")
    folders = [
        python or Path(sysconfig.get_path("include")),
        mlx / "include",
        nano / "include",
        nano / "ext" / "robin_map" / "include",
    ]
    missing = [str(f) for f in folders if not f.is_dir()]
    if missing:
        raise BuildError(f"the header folder {missing[0]} is missing")
    return [part for folder in folders for part in ("-isystem", str(folder))]  # their warnings are not ours


def jobs(machine: str, sanitize: str | None) -> list[tuple[Path, list[str]]]:
    """Every source with its own flags."""
    if machine not in ISAS:
        raise BuildError(f"there are no kernels for {machine} processors")
    python = ["-DNB_DOMAIN=mlx", "-DNDEBUG", "-DNB_COMPACT_ASSERTIONS", "-fno-strict-aliasing"]
    src = HERE / "src"
    plain = sorted(path for path in src.glob("*.cpp") if not path.stem.startswith("isa_"))
    found = [(path, ["-O2", *python]) for path in plain]
    for name, flags in ISAS[machine].items():
        # the plain kernels unroll into very much code, and nobody waits for their speed; watched, all do
        level = "-O1" if sanitize else "-O2" if name == "isa_base" else "-O3"
        found.append((src / f"{name}.cpp", [level, *flags]))
    found.append((folder_of("nanobind") / "src" / "nb_combined.cpp", ["-Os", "-w", *python]))
    return found


def newest_header() -> float:
    return max(path.stat().st_mtime for path in [*(HERE / "src").glob("*.h"), Path(__file__)])


def compile_one(cxx: list[str], source: Path, flags: list[str], folder: Path) -> Path:
    target = folder / f"{source.stem}.o"
    if target.exists() and target.stat().st_mtime > max(source.stat().st_mtime, newest_header()):
        return target
    fresh, began = target.with_suffix(f".{os.getpid()}"), time.time()
    told = run([*cxx, *COMMON, *flags, "-c", str(source), "-o", str(fresh)])
    print(f"cpu_kernels: compiled {source.name} in {time.time() - began:.0f} s", file=sys.stderr, flush=True)
    os.utime(fresh, (began, began))  # what changes while it is compiled is newer than the object
    target.with_suffix(WARNINGS).write_text(told)
    fresh.replace(target)
    return target


def run(command: list[str]) -> str:
    """What it had to say."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {errors[0] if errors else 'no message'}")
    return done.stderr


def sources_digest() -> str | None:
    # setup.py runs this file outside of its package, whose other modules want a library
    found: str | None = runpy.run_path(str(HERE / "sources.py"))["digest"]()
    return found


def versions() -> dict[str, str]:
    """What the library must be rebuilt for."""
    found = {package: importlib.metadata.version(package) for package in ("mlx", "nanobind")}
    return {**found, "python": sysconfig.get_config_var("SOABI")}


def compile_all(objects: Path, sanitize: str | None = None) -> list[Path]:
    """Objects are kept in `objects` for the next time."""
    cxx, machine = compiler(), platform.machine()
    shared = [*includes(), *(SANITIZERS[sanitize] if sanitize else [])]
    objects = objects / "-".join([*versions().values(), sanitize or "plain"])
    objects.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        todo = [
            pool.submit(compile_one, cxx, source, [*flags, *shared], objects)
            for source, flags in jobs(machine, sanitize)
        ]
        return [job.result() for job in todo]


def link(made: list[Path], target: Path, sanitize: str | None = None) -> None:
    lib, fresh = folder_of("mlx") / "lib", target.with_suffix(f".{os.getpid()}")
    command = [*compiler(), "-shared", *map(str, made), f"-L{lib}", "-lmlx", "-lpthread", "-o", str(fresh)]
    small = MAC_LINK if sys.platform == "darwin" else ["-Wl,--gc-sections", "-s"]
    run([*command, *(SANITIZERS[sanitize] if sanitize else small)])
    fresh.replace(target)  # never write into a library that a process has open


def build(folder: Path, objects: Path, sanitize: str | None = None) -> Path:
    """Compile everything into `folder`."""
    target = folder / library_name()
    link(compile_all(objects, sanitize), target, sanitize)
    return target


def try_build(folder: Path, objects: Path, sanitize: str | None = None) -> str | None:
    """Build if possible. None, or the reason why not; an older library then stays, and so does its record."""
    reason = None
    try:
        build(folder, objects, sanitize)
    except (BuildError, OSError, importlib.metadata.PackageNotFoundError) as error:
        reason = str(error)
        if (folder / library_name()).exists():
            return f"{reason}; the library that was built before stays as it is"
    made = {} if reason else {"sources": sources_digest(), **versions()}
    record = {"built": reason is None, "reason": reason, **made}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return reason


def check(objects: Path) -> str:
    """The compiler's warnings about our sources."""
    return "".join(target.with_suffix(WARNINGS).read_text() for target in compile_all(objects))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=HERE, help="where the library goes")
    parser.add_argument("--sanitize", choices=sorted(SANITIZERS))
    parser.add_argument("--check", action="store_true", help="only compile, and fail where the compiler warns")
    args = parser.parse_args()
    objects = HERE.parent / "build" / "cpu_kernels"
    if args.check:
        try:
            told = check(objects)
        except BuildError as error:
            told = f"cpu_kernels: {error}.\n"
        sys.exit(told or None)
    args.into.mkdir(parents=True, exist_ok=True)
    reason = try_build(args.into, objects, args.sanitize)
    if reason:
        sys.exit(f"cpu_kernels: {reason}.")
    print(args.into / library_name())


if __name__ == "__main__":
    main()
