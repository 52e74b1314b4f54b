"""The CPU kernels for macOS, compiled and linked on another machine: `make kernels-macos`. Nothing of them ever ran.

Zig's compiler carries the headers of macOS's C library; MLX's library is that of its wheel for macOS. Python's header
of configuration is this machine's, which agrees with a Mac's in all sizes. Python's functions are stood in for by a
library that has nothing else, so that a name that neither Python nor MLX has fails here and not on a Mac.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpu_kernels import build

PLACE = build.HERE.parent / "build" / "macos"
ZIG = "0.17.1"
TARGETED, WHEEL = ["-target", "aarch64-macos.14.0"], "macosx_14_0_arm64"


def run(command: list[str | Path]) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(PLACE / "zig"),
        "ZIG_GLOBAL_CACHE_DIR": str(PLACE / "cache"),
        "ZIG_LOCAL_CACHE_DIR": str(PLACE / "cache"),
    }
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=False)
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    if done.returncode:
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")


def fetch() -> None:
    """Zig and the wheel that has MLX's library for macOS, once."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not (PLACE / "zig" / f"ziglang-{ZIG}.dist-info").exists():
        run([*pip, "install", "--target", PLACE / "zig", "--upgrade", f"ziglang=={ZIG}"])
    wheel = f"mlx_metal-{importlib.metadata.version('mlx')}-py3-none-{WHEEL}.whl"
    if not (PLACE / wheel).exists():
        pinned = f"mlx-metal=={importlib.metadata.version('mlx')}"
        run([*pip, "download", "--no-deps", "--only-binary", ":all:", "--platform", WHEEL, "-d", PLACE, pinned])
        with zipfile.ZipFile(PLACE / wheel) as opened:
            opened.extract("mlx/lib/libmlx.dylib", PLACE)


def headers() -> Path:
    """Python's, with a pyconfig.h that asks for no machine."""
    folder = PLACE / "python"
    shutil.copytree(sysconfig.get_path("include"), folder, dirs_exist_ok=True)
    config = Path(sysconfig.get_config_h_filename())
    machines = Path("/usr/include") / str(sysconfig.get_config_var("MULTIARCH")) / config.parent.name / config.name
    shutil.copy(machines if machines.exists() else config, folder)
    return folder


def python_functions(cxx: list[str]) -> Path:
    """A library of all the names that an extension may take from Python."""
    listed = (build.folder_of("nanobind") / "cmake" / "darwin-ld-cpython.sym").read_text().split()
    source, library = PLACE / "python.c", PLACE / "libpython.dylib"
    source.write_text("\n".join(f"void {name[1:]}(void) {{}}" for name in listed if name != "-U"))
    run([*cxx[:-1], "cc", *TARGETED, "-w", "-fno-builtin", "-shared", source, "-o", library])
    return library


def main() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    fetch()
    zig = [sys.executable, "-m", "ziglang", "c++"]
    cxx, shared = [*zig, *TARGETED], [*build.includes(headers()), "-Werror"]
    objects = PLACE / "objects"
    objects.mkdir(exist_ok=True)

    def compiled(job: tuple[Path, list[str]]) -> Path:
        source, flags = job
        made = objects / f"{source.stem}.o"
        if not made.exists() or made.stat().st_mtime < max(source.stat().st_mtime, build.newest_header()):
            run([*cxx, *build.COMMON, *flags, *shared, "-c", source, "-o", made])
            print(f"compiled {source.name}", flush=True)
        return made

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = list(pool.map(compiled, build.jobs("arm64", None)))
    strict = [flag for flag in build.MAC_LINK if flag not in ("-undefined", "dynamic_lookup")]
    library = PLACE / "_native.cpython-macos.so"
    functions = python_functions(zig)
    run([*cxx, "-shared", *made, functions, PLACE / "mlx" / "lib" / "libmlx.dylib", *strict, "-o", library])
    print(f"{len(made)} sources compiled for macOS and linked; nothing was run", flush=True)


if __name__ == "__main__":
    main()
