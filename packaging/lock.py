"""Writes packaging/requirements-macos.txt: every package that mlxrun needs on a Mac, with its version and hash.

`python packaging/lock.py`, on any machine. pip answers for Python 3.12 on macOS 14; which packages a Mac needs beside
those of this machine is asked of MLX's own list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(__file__).with_name("requirements-macos.txt")
MAC = ["--platform", "macosx_14_0_arm64", "--python-version", "3.12", "--only-binary", ":all:"]
HEAD = "# Made by packaging/lock.py: what mlxrun needs on macOS 14, Apple Silicon, Python 3.12.\n"


def main() -> None:
    wishes = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    metal = [wish.replace("mlx==", "mlx-metal==") for wish in wishes if wish.startswith("mlx==")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "--target", folder, *MAC]
        subprocess.run([sys.executable, "-m", "pip", "install", *asked, *wishes, *metal], check=True)
        found = json.loads(report.read_text())["install"]
    near = [one["metadata"]["name"] for one in found if one["download_info"]["url"].startswith("file:")]
    if near:  # somebody's own build, whose hash nobody else would meet
        sys.exit(f"{', '.join(near)} would come from this machine's own folders, not from the package index.")
    lines = [
        f"{one['metadata']['name']}=={one['metadata']['version']} "
        f"--hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}\n"
        for one in sorted(found, key=lambda one: one["metadata"]["name"].lower())
    ]
    TARGET.write_text(HEAD + "".join(lines))
    print(f"{len(lines)} packages are in {TARGET.name}.")


if __name__ == "__main__":
    main()
