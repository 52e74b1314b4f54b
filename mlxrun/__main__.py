"""`python -m mlxrun` and the `mlxrun` command."""

from __future__ import annotations

import sys

from . import supported


def main() -> int:
    why = supported.why_not()
    if why:
        print(f"mlxrun: {why}", file=sys.stderr)
        return 2
    try:
        from .cli import main as command
    except KeyboardInterrupt:  # before there is anybody to catch it
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
