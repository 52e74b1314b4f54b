"""Every text of ours through Apple's own compiler: `python -m tests.kernels.metal.apple`, on a Mac with Xcode.

What is compiled is what MLX compiles when a kernel is first launched: its own header before the text, without fast
math, once for each version of the language that MLX asks for: 3.1 on macOS 14, 3.2 on 15, 4.0 on 26. Elsewhere the
files are only written. It never ran on a Mac.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx

from ..lint.texts import whole_texts
from .made import FLOATS

VERSIONS = ("metal3.1", "metal3.2", "metal4.0")
INCLUDE = Path(mx.__file__).parent / "include"
HEADER = '#include "mlx/backend/metal/kernels/utils.h"\n'
SHOWN = 40  # lines of what the compiler says of a text


def write_texts(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for dtype in FLOATS:
        for name, made in whole_texts(dtype).items():
            place = folder / f"{name}.metal"
            place.write_text(HEADER + made.text, encoding="ascii")
            written.append(place)
    return sorted(set(written))


def compile_one(text: Path, version: str) -> str:
    """What is wrong with it; nothing where it compiles."""
    flags = [f"-std={version}", "-fno-fast-math", f"-I{INCLUDE}", "-c", str(text), "-o", os.devnull]
    done = subprocess.run(["xcrun", "-sdk", "macosx", "metal", *flags], capture_output=True, text=True, check=False)
    return "\n".join(done.stderr.splitlines()[:SHOWN]) or "failed in silence" if done.returncode else ""


def compile_all(texts: list[Path], versions: list[str]) -> dict[str, str]:
    """What is wrong, by text and version."""
    jobs = [(text, version) for version in versions for text in texts]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        told = list(pool.map(lambda job: compile_one(*job), jobs))
    return {f"{text.name} as {version}": one for (text, version), one in zip(jobs, told, strict=True) if one}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the texts are written")
    parser.add_argument("--std", action="append", choices=VERSIONS, help="only this version (repeatable)")
    flags = parser.parse_args(arguments)
    texts = write_texts(flags.folder)
    print(f"{len(texts)} texts are in {flags.folder}.", flush=True)
    if not shutil.which("xcrun"):
        print("There is no xcrun here, so nothing is compiled: that takes a Mac with Xcode.")
        return 0
    wrong = compile_all(texts, flags.std or list(VERSIONS))
    for what, told in wrong.items():
        print(f"== {what}\n{told}")
    print(f"{len(wrong)} of {len(texts) * len(flags.std or VERSIONS)} did not compile.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
