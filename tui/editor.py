"""A text in the person's own editor. Knows no widgets: whoever calls has given the terminal away."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

USUAL = ("nano", "vi")


class EditorError(RuntimeError):
    """Why there is no edited text, in one sentence."""


def editor(environ: Mapping[str, str]) -> list[str]:
    named = environ.get("VISUAL") or environ.get("EDITOR")
    if named:
        return shlex.split(named)
    found = next((name for name in USUAL if shutil.which(name)), None)
    if found is None:
        raise EditorError("No editor is known here; set EDITOR.")
    return [found]


def edited(text: str, command: list[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="mlxrun-") as folder:  # for our own eyes only
        file = Path(folder) / "message.md"
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*command, str(file)], check=False)
        except OSError as error:
            raise EditorError(f"{command[0]} could not be started: {error.strerror}.") from error
        if done.returncode != 0:
            raise EditorError(f"{command[0]} ended with {done.returncode}; your text is as it was.")
        return file.read_text(encoding="utf-8", errors="replace").rstrip("\n")
