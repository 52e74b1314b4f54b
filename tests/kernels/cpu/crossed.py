"""The kernels for aarch64, compiled on another machine and run under qemu: `make kernels-aarch64`.

All sources are compiled for it, as the build on such a machine would; NEON's kernels then run against the plain
ones. What is not run: MLX, the pool and the primitives, for which there is no library of that kind here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cpu_kernels import build

HERE = Path(__file__).parent
COMPILER, MACHINE = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = (
    "-std=c++20",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-psabi",
    f"-I{build.HERE / 'src'}",
)


def run(*command: str | Path) -> None:
    if subprocess.run([str(part) for part in command], check=False).returncode:
        sys.exit(f"failed: {' '.join(str(part) for part in command)}")


def main() -> None:
    if not shutil.which(COMPILER):
        sys.exit(f"{COMPILER} is not here (Debian, Ubuntu: apt install g++-aarch64-linux-gnu)")
    src, isas = build.HERE / "src", build.ISAS["aarch64"]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, flags in isas.items():
            objects.append(Path(folder) / f"{name}.o")
            run(
                COMPILER,
                *FLAGS,
                "-O0" if name == "isa_base" else "-O1",
                *flags,
                "-c",
                src / f"{name}.cpp",
                "-o",
                objects[-1],
            )
        for path in sorted(src.glob("*.cpp")):
            if not path.stem.startswith("isa_"):
                run(COMPILER, *FLAGS, *build.includes(), "-DNB_DOMAIN=mlx", "-fsyntax-only", path)
        print("everything compiles for aarch64", flush=True)
        if not shutil.which(MACHINE):
            sys.exit(f"{MACHINE} is not here (Debian, Ubuntu: apt install qemu-user): nothing was run")
        program = Path(folder) / "crossed"
        run(COMPILER, *FLAGS, "-O1", "-static", HERE / "crossed.cpp", *objects, "-o", program)
        run(MACHINE, program)


if __name__ == "__main__":
    main()
