"""Draws docs/session.svg, the picture in the README, from commands that it really runs (stdout only)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMANDS = (
    ["run", "smollm2", "What is the capital of France?", "--temperature", "0"],
    ["show", "smollm2"],
)
WIDTH = 96
OUT = Path(__file__).with_name("session.svg")
WEB_FONT = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)  # the picture must not fetch anything


def main() -> None:
    console = Console(record=True, width=WIDTH, file=sys.stderr, force_terminal=True)
    for arguments in COMMANDS:
        console.print(Text.assemble(("$ ", "bold green"), ("mlxrun " + shlex.join(arguments), "bold")))
        command, environ = [sys.executable, "-m", "mlxrun", *arguments], os.environ | {"COLUMNS": str(WIDTH)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
        console.print(Text(done.stdout))
    OUT.write_text(WEB_FONT.sub("", console.export_svg(title="mlxrun")), encoding="utf-8")


if __name__ == "__main__":
    main()
