"""`python -m mlxrun` and the `mlxrun` command."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from .cli import main as command
    except KeyboardInterrupt:  # before there is anybody to catch it
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
